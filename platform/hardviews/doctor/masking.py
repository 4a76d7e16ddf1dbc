"""Removes secrets from texts that people send to others: one function for all of them.

Three signs mark a secret. The first is its form: AWS keys, tokens, signatures, passwords in addresses. The second is
the name before it. The third is its value: secrets in the environment and in configuration files of this machine are
replaced everywhere.
"""

import base64
import functools
import getpass
import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote, urlsplit

from hardviews.tracking.scrub import HIDDEN, scrub

# Bounded at both ends: otherwise the time grows with the square of the length of a line without a blank.
_NAME = (
    r"[\w.-]{0,40}(?:secret|token|passw(?:or)?[dt]|credential|private[_.-]?key|(?:access|account|shared|api)[_.-]?key"
    r"|signature)"
    r"[\w.-]{0,40}"
)
_SECRET_NAME = re.compile(rf"(?i)^{_NAME}$|(?:^|_)(?:key|auth|cookie|netrc)(?:$|_)|-key-data$|^auth$|^_authtoken$")
# A number, a switch or an empty value is not a secret, whatever its name: `model.patch_tokens = 196`.
_PLAIN_VALUE = re.compile(r"(?i)[\s\"']*(?:[-+\d.e_]*|true|false|none|null|\*+)[\s\"',;}\])]*$")
# A sentence goes on after such a word, a colon and a blank: tokens and keys are not words.
_PROSE = re.compile(r"(?i)(?:token|credential)s?:\s+$")
_NAMES_OF_SECRETS = {"HARDVIEWS_SECRETS"}  # variables that hold names of Kubernetes Secrets, which are not secret
_SHORTEST = 6  # characters of a value that is replaced everywhere; shorter values are also parts of words

_ASSIGNED = re.compile(
    rf"(?i)(?P<name>{_NAME}|\b(?:client|certificate-authority)-key-data|\bx-amz-[a-z-]+)"
    r"(?P<between>[\"']?\s*(?:[:=]|=>)\s*)(?P<value>\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|[^\s,;&\"'}\])]+)"
)
_AUTHORIZATION = re.compile(
    r"(?i)((?:proxy-)?authorization[\"']?\s*[:=]\s*[\"']?|\b(?:set-)?cookie[\"']?\s*:\s*[\"']?)[^\n\"']+"
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)(\s+)[A-Za-z0-9._~+/-]{8,}=*")
_BLOCK = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_END = re.compile(r"\A[A-Za-z0-9+/=\s]+-----END [A-Z ]*PRIVATE KEY-----")  # the end of a text that was cut
_QUERY = re.compile(
    r"(?i)([?&;](?:x-(?:amz|goog|oss)-[a-z-]*|[\w.-]{0,40}(?:sig|token|key|secret|password|auth|credential)[\w.-]{0,40})=)"
    r"(?!\d+(?:[&\s\"'<>]|$))[^&\s\"'<>]+"  # a number alone is a size: max-keys=1
)
# Options of programs with a blank before the value; `-u` of curl, and `-p` of clients of databases and registries.
_OPTIONS = [
    re.compile(rf"(?i)(\s--?{_NAME}\s+)(?!-)[^\s\"']+"),
    re.compile(r"(?i)(\s(?:-u|--user)[\s=]*[^\s:]{1,80}:)[^\s\"']+"),
    re.compile(r"(?i)(\b(?:mysql\w{0,10}|mariadb|docker\s+login|podman\s+login)\b[^\n]{0,200}?\s-p\s?)[^\s\"']+"),
    re.compile(r"(?i)(\bpassw(?:or)?[dt]\s+is\s+)[^\s\"']+"),
]
_FORMS = [
    re.compile(r"\$(?:1|2[aby]?|5|6|y|argon2\w{1,2})\$[^\s:]{8,}"),  # hashes of passwords
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?"),  # tokens of Kubernetes and OpenID
    re.compile(r"\b(?:A3T[A-Z0-9]|ABIA|ACCA|AGPA|AIDA|AIPA|AKIA|ANPA|ANVA|AROA|ASIA)[A-Z0-9]{12,}\b"),
    re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|hf_|sk-|xox[abposr]-|dapi|ya29\.|AIza|pypi-)[A-Za-z0-9_-]{16,}"),
]
# A secret key of AWS has 40 characters of base64. Digests of git have small letters and digits only.
_SECRET_KEY = re.compile(r"(?<![A-Za-z0-9/+_.-])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=_-])")
_HOMES = re.compile(r"(/(?:home|Users)/)[^/\s\"':,;)\]]+")
_EVERYBODY = {"root", "user", "users", "admin", "nobody", "ubuntu", "runner", "app", "jovyan", "worker", "dev"}
# Containers have such users and home folders, and our records have such words: replaced, they would be garbled.
_EVERYBODY |= {
    "data",
    "home",
    "host",
    "hardviews",
    "jobs",
    "loss",
    "mlflow",
    "model",
    "output",
    "project",
    "python",
    "run",
}
_EVERYBODY |= {
    "runs",
    "scratch",
    "seed",
    "slurm",
    "stack",
    "step",
    "test",
    "time",
    "torch",
    "train",
    "work",
    "workspace",
}


def masked(text: str, personal: bool = False) -> str:
    """Return a text with `***` in place of secrets.

    personal: also replace the home folder by `~` and the name of the user by USER.
    """
    for secret in secrets():
        text = text.replace(secret, HIDDEN)
    text = _END.sub(f"{HIDDEN} (a private key)", text)
    text = _BLOCK.sub(f"{HIDDEN} (a private key)", text)
    text = scrub(text)
    text = _QUERY.sub(rf"\g<1>{HIDDEN}", text)
    text = _AUTHORIZATION.sub(rf"\g<1>{HIDDEN}", text)
    text = _BEARER.sub(rf"\g<1>\g<2>{HIDDEN}", text)
    text = _ASSIGNED.sub(_hide, text)
    for option in _OPTIONS:
        text = option.sub(rf"\g<1>{HIDDEN}", text)
    for form in _FORMS:
        text = form.sub(HIDDEN, text)
    text = _SECRET_KEY.sub(lambda match: HIDDEN if _is_mixed(match[0]) else match[0], text)
    return _without_people(text) if personal else text


def is_secret_name(name: str) -> bool:
    """Return whether a variable or a setting of this name holds a secret."""
    return name not in _NAMES_OF_SECRETS and _SECRET_NAME.search(name) is not None


def environment(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables whose names do not mark a secret; values are masked."""
    return {name: masked(value) for name, value in sorted(variables.items()) if not is_secret_name(name)}


def secrets() -> tuple[str, ...]:
    """Return the secrets of this process and of readable configuration files, the longest first."""
    return _collected(tuple(sorted(os.environ.items())))


@functools.lru_cache(maxsize=4)
def _collected(variables: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    found: set[str] = set()
    for name, value in variables:
        if is_secret_name(name):
            found |= {value.strip(), *map(str.strip, value.splitlines())}
        found |= _passwords(value)
    for path in _files(dict(variables)):
        found |= set(_in_file(path))
    found = {value for value in found if len(value) >= _SHORTEST and not _PLAIN_VALUE.fullmatch(value)}
    found -= {value for value in found if os.path.exists(value)}  # a variable that names a file of secrets
    for value in list(found):
        encoded = base64.b64encode(value.encode()).decode()
        found |= {quote(value, safe=""), quote_plus(value), json.dumps(value)[1:-1], encoded}
    return tuple(sorted(found, key=lambda value: (-len(value), value)))


def _files(variables: Mapping[str, str]) -> list[Path]:
    home = Path(variables.get("HOME") or "~").expanduser()
    names = [variables.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws" / "credentials"]
    names += [variables.get("AWS_CONFIG_FILE") or home / ".aws" / "config", home / ".netrc"]
    names += [home / ".mlflow" / "credentials", home / ".docker" / "config.json", home / ".git-credentials"]
    names += [variables.get("AWS_WEB_IDENTITY_TOKEN_FILE") or home / ".pypirc"]
    names += list((variables.get("KUBECONFIG") or str(home / ".kube" / "config")).split(os.pathsep))
    names += ["/var/run/secrets/kubernetes.io/serviceaccount/token"]
    return [Path(name).expanduser() for name in names if name]


def _in_file(path: Path) -> Iterable[str]:
    """Yield the secrets in a file of credentials; a file with a single word is a secret itself."""
    try:
        text = path.read_text(errors="replace")[:1_000_000]
    except OSError:
        return
    if re.fullmatch(r"\s*\S+\s*", text):
        yield text.strip()
    for line in text.splitlines():
        name, separator, value = line.strip().lstrip("- ").partition("=" if "=" in line.partition(":")[0] else ":")
        if separator and is_secret_name(name.strip().strip("\"'")):
            yield value.strip().strip("\"',")
        yield from _passwords(line)
    words = text.split() if path.name == ".netrc" else []
    yield from (value for key, value in pairwise(words) if key == "password")


def _passwords(text: str) -> set[str]:
    """Return the passwords in the addresses of a text, as written and decoded."""
    found = set()
    for address in re.findall(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s\"']+", text):
        try:
            password = urlsplit(address).password
        except ValueError:
            continue
        found |= {password, unquote(password)} if password else set()
    return found


def _hide(match: re.Match[str]) -> str:
    value = match["value"]
    if _PLAIN_VALUE.fullmatch(value) or (_PROSE.search(match["name"] + match["between"]) and value.isalpha()):
        return match[0]
    quoted = value[0] if value[0] in "\"'" else ""
    return f"{match['name']}{match['between']}{quoted}{HIDDEN}{quoted}"


def _is_mixed(word: str) -> bool:
    """Return whether a word has small and large letters and digits, and is not a path."""
    kinds = (str.islower, str.isupper, str.isdigit)
    return all(any(map(kind, word)) for kind in kinds) and not word.startswith("/")


def _without_people(text: str) -> str:
    home = os.path.expanduser("~").rstrip("/")
    if home:
        text = re.sub(rf"(?<![\w.-]){re.escape(home)}(?![\w-])", "~", text)
    text = _HOMES.sub(r"\g<1>USER", text)
    for name in _users():
        text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", "USER", text)
    return text


def _users() -> set[str]:
    names = {os.environ.get(name, "") for name in ("USER", "LOGNAME", "USERNAME", "SUDO_USER", "HARDVIEWS_USER")}
    names.add(os.environ.get("MLFLOW_TRACKING_USERNAME", ""))
    names.add(Path(os.path.expanduser("~")).name)
    with suppress(KeyError, OSError):  # a container's user may have no name
        names.add(getpass.getuser())
    return {name for name in names if len(name) > 1 and name.lower() not in _EVERYBODY}
