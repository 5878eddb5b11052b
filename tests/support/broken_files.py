"""Config files and spaces with mistakes, which command lines name."""

SPACES = """
from search.space import Choice, Float, Int, SearchSpace

def empty(): return SearchSpace({"optimizer.lr": Choice()})
def upside_down(): return SearchSpace({"optimizer.lr": Float(2, 1)})
def log_from_zero(): return SearchSpace({"optimizer.lr": Float(0, 1, log=True)})
def no_step(): return SearchSpace({"model.dropout": Float(0, 0.5, step=0)})
def unknown_model(): return SearchSpace({"model.name": Choice("table2", "tabel2")})
def odd_key(): return SearchSpace({"optimizer[lr]": Choice(1)})
def huge(): return SearchSpace({"model.width": Int(1, 4096), "epochs": Int(1, 100)})
def leaky(): return SearchSpace({"model.name": Choice("table2", "AKIAABCDEFGHIJKLMNOP")})
def broken(): return 1 / 0
number = 3
"""

FILES = {
    "typo.yaml": "space: smoke\n\nset:\n  optimizer:\n    lerning_rate: 0.1\n",
    "twice.yaml": "space: smoke\ntrials: 3\ntrials: 4\n",
    "tab.yaml": "space: smoke\n\ttrials: 3\n",
    "object.yaml": 'space: !!python/object/apply:os.system ["touch ran"]\n',
    "bomb.yaml": "a: &a [x, x]\n"
    + "".join(f"b{number}: &b{number} [{', '.join(['*a'] * 9)}]\n" for number in range(30)),
    "secret.yaml": "space: smoke\naws_secret_access_key: hunter2\n",
    "nul.yaml": 'space: smoke\nname: "a\\0b"\n',
    "text.db": "this is no database, as anybody can see\n" * 9,
    "spaces.py": SPACES,
}
