"""The reasons why containers do not start on the nodes of their pods: images, secrets, volumes. Pure."""

from collections.abc import Sequence

from torchx.specs import ReplicaState

from hardviews.launch.kubernetes.observed import Object, Replica, Surroundings, happened, names, one_line, paragraph

_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_CONFIGURATION = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "ContainerCannotRun")
_NO_OBSTACLES = ("BackOff", "FailedScheduling", "FailedToRetrieveImagePullSecret")
_WRAPPINGS = ("Back-off pulling image", "failed to pull and unpack", "rpc error")


def mistaken(replica: Replica, seen: Surroundings) -> str:
    """Return the mistake in the description that prevents a container from ever starting; empty if there is none."""
    return _image(replica, seen) or _configuration(replica) or _init_container(replica)


def starting(replicas: Sequence[Replica], seen: Surroundings) -> str:
    """Return the reasons why pods with a node do not run yet: an image that is being pulled, a missing volume."""
    pending = [
        replica
        for replica in replicas
        if replica.state == ReplicaState.PENDING
        and replica.node
        and not replica.leaving
        and replica.waiting.get("reason") != "CrashLoopBackOff"
    ]
    for replica in pending:
        for event in seen.about(replica.name):
            if event.get("reason") in ("Pulling", "Pulled", "Created", "Started") or not _of_this_pod(event, replica):
                break
            if event.get("type") == "Warning" and event.get("reason") not in _NO_OBSTACLES:
                why = one_line(event.get("message", ""))
                return paragraph([f"{replica} does not start on {replica.node}: {why}", _volume(replica, event)])
    pulling = {replica.name: began for replica in pending if (began := _pulling_since(replica, seen))}
    sentences = []
    if here := [replica for replica in pending if replica.name in pulling]:
        image = here[0].pod["spec"]["containers"][0].get("image", "")
        nodes = ", ".join(dict.fromkeys(replica.node for replica in here))
        since = seen.since(min(pulling.values()))
        sentences.append(
            f"{names(here)} wait{'s' * (len(here) == 1)} for the image {image}, which is being pulled on {nodes}"
            + (f" {since}." if since else ".")
        )
    if other := [replica for replica in pending if replica.name not in pulling]:
        nodes = ", ".join(dict.fromkeys(replica.node for replica in other))
        since = seen.since(other[0].condition("PodScheduled").get("lastTransitionTime"))
        verb = "is" if len(other) == 1 else "are"
        sentences.append(f"{names(other)} {verb} being started on {nodes}" + (f" {since}." if since else "."))
    return " ".join(sentences)


def _image(replica: Replica, seen: Surroundings) -> str:
    if replica.waiting.get("reason") not in _IMAGE:
        return ""
    image = replica.container.get("image") or replica.pod["spec"]["containers"][0].get("image")
    why = str(replica.waiting.get("message") or replica.waiting["reason"])
    # The kubelet wraps the registry's answer in the list of its attempts.
    for prefix in _WRAPPINGS:
        if why.startswith(prefix) and ": " in why:
            why = why.split(": ", 1)[1]
    lacking = [e for e in seen.about(replica.name) if e.get("reason") == "FailedToRetrieveImagePullSecret"]
    secret = f" {one_line(lacking[0].get('message', ''))}" if lacking else ""
    return (
        f"The image {image} of {replica} cannot be pulled: {why.strip()}.{secret} See that its name is right, that the "
        "cluster reaches the registry, and whether it wants credentials (-cfg image_pull_secrets=NAME). Then cancel "
        "and submit again."
    )


def _configuration(replica: Replica) -> str:
    if replica.waiting.get("reason") not in _CONFIGURATION:
        return ""
    why = str(replica.waiting.get("message") or replica.waiting["reason"])
    lowered = why.lower()
    help = ""
    if "secret" in lowered or "configmap" in lowered:
        help = " Create it, or add the key; the pod then starts by itself."
    elif "run as root" in lowered or "runasnonroot" in lowered:
        help = " Use an image that `make image` has built, or -cfg run_as_user=NUMBER."
    return f"{replica} cannot start: {why.rstrip('.')}.{help}"


def _init_container(replica: Replica) -> str:
    """Return a sentence about a failing init container, which for example a mesh adds."""
    for status in replica.pod.get("status", {}).get("initContainerStatuses") or []:
        state = status.get("state", {})
        waiting = state.get("waiting") or {}
        ended = state.get("terminated") or status.get("lastState", {}).get("terminated") or {}
        failing = waiting.get("reason") in (*_IMAGE, *_CONFIGURATION, "CrashLoopBackOff") or ended.get("exitCode")
        if failing and not status.get("ready"):
            why = ended.get("message") or waiting.get("message") or ended.get("reason") or waiting.get("reason")
            code = f" with exit code {ended['exitCode']}" if ended.get("exitCode") else ""
            return (
                f"{replica} cannot start: its init container {status.get('name')} fails{code}: "
                f"{one_line(str(why)).rstrip('.')}. `kubectl logs {replica.name} -c {status.get('name')}` shows more."
            )
    return ""


def _pulling_since(replica: Replica, seen: Surroundings) -> str:
    """Return the time since which a pod's image is being pulled; empty if it is not."""
    if replica.waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
        return ""
    mine = [event for event in seen.about(replica.name) if _of_this_pod(event, replica)]
    began = [happened(event) for event in mine if event.get("reason") == "Pulling"]
    over = [happened(event) for event in mine if event.get("reason") in ("Pulled", "Created", "Started")]
    return began[0] if began and not (over and over[0] >= began[0]) else ""


def _of_this_pod(event: Object, replica: Replica) -> bool:
    uid, mine = event.get("involvedObject", {}).get("uid"), replica.pod["metadata"].get("uid")
    return not uid or not mine or uid == mine


def _volume(replica: Replica, event: Object) -> str:
    """Return a remedy for a volume that cannot be mounted."""
    if event.get("reason") not in ("FailedMount", "FailedAttachVolume"):
        return ""
    claims = [
        volume["persistentVolumeClaim"]["claimName"]
        for volume in replica.pod["spec"].get("volumes", [])
        if "persistentVolumeClaim" in volume
    ]
    return f"`kubectl describe pvc {' '.join(claims)}` shows more." if claims else ""
