"""What a training needs beside it: an S3 server and an MLflow server, each one pod that holds its files."""

from __future__ import annotations

import json
from typing import Any

S3_PORT, MLFLOW_PORT = 8333, 5000

_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def object_store(image: str, access_key: str, secret_key: str) -> list[dict[str, Any]]:
    """SeaweedFS with one user, and telemetry off."""
    identity = {
        "name": "test",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    users = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "store-users"},
        "stringData": {"s3.json": json.dumps({"identities": [identity]})},
    }
    arguments = ["weed", "-logtostderr=true", "server", "-dir=/data", "-ip=127.0.0.1", "-ip.bind=0.0.0.0"]
    arguments += ["-filer", "-filer.localSocket=/tmp/filer.sock", "-s3", f"-s3.port={S3_PORT}"]
    arguments += ["-s3.config=/users/s3.json", "-s3.localSocket=/tmp/s3.sock", "-s3.port.iceberg=0"]
    arguments += ["-s3.port.lance=0", "-s3.iam=false", "-s3.autoCreateBucket=false", "-volume.max=0"]
    arguments += ["-volume.minFreeSpace=1", "-master.volumeSizeLimitMB=64", "-master.telemetry=false"]
    arguments += ["-master.electionTimeout=1s"]
    mount = {"name": "users", "mountPath": "/users", "readOnly": True}
    volume = {"name": "users", "secret": {"secretName": "store-users", "defaultMode": 0o440}}
    return [users, *_served("store", image, arguments, S3_PORT, "256Mi", "1Gi", mount, volume)]


def mlflow(image: str) -> list[dict[str, Any]]:
    """MLflow over SQLite; it answers to its name in the cluster and to a forwarded port."""
    arguments = ["mlflow", "server", "--host", "0.0.0.0", "--port", str(MLFLOW_PORT), "--workers", "1"]
    arguments += ["--backend-store-uri", "sqlite:////data/mlflow.db", "--artifacts-destination", "/data/artifacts"]
    arguments += ["--allowed-hosts", f"mlflow:{MLFLOW_PORT},localhost:*,127.0.0.1:*"]
    environment = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return _served("mlflow", image, arguments, MLFLOW_PORT, "512Mi", "2Gi", environment=environment)


def _served(
    name: str,
    image: str,
    arguments: list[str],
    port: int,
    memory: str,
    limit: str,
    mount: dict[str, Any] | None = None,
    volume: dict[str, Any] | None = None,
    environment: dict[str, str] | None = None,
) -> list[dict[str, Any]]:
    container = {
        "name": name,
        "image": image,
        "command": arguments,
        "env": [{"name": key, "value": value} for key, value in (environment or {}).items()],
        "ports": [{"containerPort": port}],
        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "50m", "memory": memory}, "limits": {"memory": limit}},
        "securityContext": _RESTRICTED,
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "tmp", "mountPath": "/tmp"},
            *([mount] if mount else []),
        ],
    }
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "data", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
            *([volume] if volume else []),
        ],
    }
    labels = {"app.kubernetes.io/name": name}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "replicas": 1,
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": labels, "ports": [{"port": port, "targetPort": port}]},
        },
    ]
