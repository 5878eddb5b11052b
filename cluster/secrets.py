"""Recognise credentials in texts, by their form or by the name of their option or variable."""

import re

KEY = re.compile(
    r"passw(or)?d|(?<![a-z])pwd(?![a-z])|secret|(api|access|private)[_-]?key|credential|(?<![a-z])token(?![a-z])",
    re.IGNORECASE,
)
"""Matches the names of options, variables and keys whose values are credentials."""

PASSWORD_IN_URI = re.compile(
    r"(?<=://)(?:[^@\s]*:[^@\s]*"  # name:password
    r"|(?=[^@\s/]*\d)[^@\s/]{16,})(?=@)"  # a token; user names are shorter, or have no digit
)
"""Matches the login in a URI: `name:password`, or a token."""
ASSIGNED = re.compile(
    r"(?<![a-z])((?:passw(?:or)?d|pwd|secret|token|credential|(?:api|access|private)[_-]?key)s?=)[^\s&]+",
    re.IGNORECASE,
)
"""Matches `NAME=VALUE` if NAME is or ends in a word for a credential; the group is `WORD=`."""
TOKENS = re.compile(
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"  # Amazon
    r"|\bgh[pousr]_\w{36}|\bgithub_pat_\w{22}|\bglpat-[\w-]{20}"  # GitHub, GitLab
    r"|\bhf_[A-Za-z0-9]{30}|\bAIza[\w-]{35}|\bxox[abeoprs]-[\w-]{10}"  # Hugging Face, Google, Slack
    r"|\bsk-(?:proj-|ant-\w+-)[\w-]{20}\S*|\bsk-[A-Za-z0-9]{40}"  # OpenAI, Anthropic
    r"|\beyJ[\w-]{10,}\.[\w-]{10,}\S*"  # JSON web tokens
    r"|-----BEGIN [A-Z ]*PRIVATE KEY\S*"
)
"""Matches the tokens and keys of well-known services by their form."""


def redact(text: str) -> str:
    """Replace everything that looks like a credential with `***`."""
    return TOKENS.sub("***", ASSIGNED.sub(r"\1***", PASSWORD_IN_URI.sub("***", text)))
