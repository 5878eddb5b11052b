"""python -m tests.support.answering MODEL TRACKING: a stand-in for a model's process.

It tells the number of bytes of each image. A model called `broken` cannot be loaded; an image that
is `die` ends the process.
"""

import json
import os
import sys


def main() -> None:
    if "broken" in sys.argv[1]:
        print(json.dumps({"error": "it cannot be loaded"}), flush=True)
        return
    print(json.dumps({"ready": "1", "classes": 2}), flush=True)
    while line := sys.stdin.buffer.readline():
        content = sys.stdin.buffer.read(int(line))
        if content == b"die":
            os._exit(1)
        print(json.dumps({"bytes": len(content), "process": os.getpid()}), flush=True)


if __name__ == "__main__":
    main()
