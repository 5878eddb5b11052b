"""Recognise credentials by their own form or by the name that they are given under."""

import re

KEY = re.compile(
    r"passw(or)?d|(?<![a-z])pwd(?![a-z])|secret|(api|access|private)[_-]?key|credential|(?<![a-z])token(?![a-z])",
    re.IGNORECASE,
)
"""Matches the names of keys that hold credentials."""

PASSWORD_IN_URI = re.compile(
    r"(?<=://)(?:[^@\s]*:[^@\s]*"  # name:password
    r"|(?=[^@\s/]*\d)[^@\s/]{16,})(?=@)"  # a token alone; a name is shorter, or has no digit
)
ASSIGNED = re.compile(
    r"(?<![a-z])((?:passw(?:or)?d|pwd|secret|token|credential|(?:api|access|private)[_-]?key)s?=)[^\s&]+",
    re.IGNORECASE,
)
TOKENS = re.compile(
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"  # Amazon
    r"|\bgh[pousr]_\w{36}|\bgithub_pat_\w{22}|\bglpat-[\w-]{20}"  # GitHub, GitLab
    r"|\bhf_[A-Za-z0-9]{30}|\bAIza[\w-]{35}|\bxox[abeoprs]-[\w-]{10}"  # Hugging Face, Google, Slack
    r"|\bsk-(?:proj-|ant-\w+-)[\w-]{20}\S*|\bsk-[A-Za-z0-9]{40}"  # OpenAI, Anthropic
    r"|\beyJ[\w-]{10,}\.[\w-]{10,}\S*"  # JSON web tokens
    r"|-----BEGIN [A-Z ]*PRIVATE KEY\S*"
)


def masked(text: str) -> str:
    """Return the text with everything that looks like a credential replaced by `***`."""
    return TOKENS.sub("***", ASSIGNED.sub(r"\1***", PASSWORD_IN_URI.sub("***", text)))
