"""python -m search: lists the verbs."""

VERBS = {
    "run": "start a search",
    "report NAME": "write a search's page: the table, the curves, the test evaluation",
}


def main() -> int:
    """Print the verbs."""
    print("Which network, trained how, is best for my images?\n")
    for verb, meaning in VERBS.items():
        print(f"  python -m search.{verb:<14} {meaning}")
    print("\nEach takes --help. Start with: python -m search.run --space table3")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
