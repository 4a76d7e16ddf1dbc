"""A cluster of a few objects, for code that only reads them; behaviour is tested on a real one."""

from typing import Any

from kubernetes.client.rest import ApiException

from hardviews.launch.kubernetes.cluster import JOBS, ApiRefused, Cluster

HOME = "/api/v1/namespaces/n"
QUEUES = "/apis/scheduling.volcano.sh/v1beta1/queues"


def refusal(status: int, message: str) -> ApiRefused:
    error = ApiException(status=status, reason=message)
    error.body = f'{{"message": "{message}"}}'
    return ApiRefused(error)


class Few(Cluster):
    """Knows the objects that it was given; an exception among them is raised."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(api=object(), namespace="n")
        self.objects: dict[str, Any] = {
            HOME: {},
            JOBS: {},
            QUEUES: {"items": [{"metadata": {"name": "default"}}, {"metadata": {"name": "root"}}]},
            f"{QUEUES}/default": {"status": {"state": "Open"}},
        }
        self.created: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.refuses: dict[str, ApiRefused] = {}

    def get(self, path: str, **query: str) -> dict[str, Any]:
        found = self.objects.get(path, refusal(404, "not found"))
        if isinstance(found, Exception):
            raise found
        return found

    def create(self, path: str, body: Any, **query: str) -> dict[str, Any]:
        self.created.append((path, body, query))
        kind = path.rpartition("/")[2]
        if kind in self.refuses:
            raise self.refuses[kind]
        return dict(body)
