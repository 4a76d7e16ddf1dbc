"""Sentences about a job in the words of a chart's values: `secrets: [NAME]` for `--secret NAME`."""

import re

_OF_TORCHX = r"(,( by)? HARDVIEWS_\w+ in the environment)?,? or under \[kubernetes\] in \.torchxconfig"
_WORDS = (
    (
        rf"name another: -cfg namespace=NAME{_OF_TORCHX}",
        "name another by --namespace; helm install --create-namespace makes it",
    ),
    (rf"-cfg queue=NAME({_OF_TORCHX})?", "queue"),
    (r"-cfg service_account=NAME", "pod.serviceAccount"),
    (r"-cfg image_pull_secrets=NAME", "imagePullSecrets: [NAME]"),
    (r"--mount type=volume,src=CLAIM,dst=(\S+)\.$", r"mounts: [{type: volume, src: CLAIM, dst: \1}]."),
    (r"--mount\b", "mounts"),
    (r"--secret NAME", "secrets: [NAME]"),
    (r"by --secret\b", "in secrets"),
    (r"--priority\b", "pod.priorityClass"),
    (r"given by --env", "given by env"),
    (r"--(gpu|memMB|shm|cpu)\b", r"\1"),
    (r"-j ", "j "),
)


def in_values(text: str) -> str:
    """Return a sentence of the checks of `torchx run` with the names of the chart's values."""
    for pattern, words in _WORDS:
        text = re.sub(pattern, words, text)
    return text
