"""The chart's own servers, connections and rights."""

import re

import yaml

from tests.charts.rendering import ROOT, SITE, ci, objects, of_kind, texts


def documented(name):
    """A Deployment of docs/servers.yaml."""
    read = yaml.safe_load_all((ROOT / "docs" / "servers.yaml").read_text())
    (found,) = [made for made in read if made["kind"] == "Deployment" and made["metadata"]["name"] == name]
    return found["spec"]["template"]["spec"]["containers"][0]


def deployment(name, values):
    (found,) = [each for each in of_kind("Deployment", values) if each["metadata"]["name"].endswith(f"-{name}")]
    return found["spec"]["template"]["spec"]


def test_the_servers_are_those_of_the_documentation():
    for name in ("store", "mlflow"):
        theirs, (ours,) = documented(name), deployment(name, ci("kind"))["containers"]
        hosts = re.compile(r"--allowed-hosts=.*")
        assert [hosts.sub("", word) for word in ours["command"]] == [hosts.sub("", word) for word in theirs["command"]]
        assert [entry["name"] for entry in ours["env"]] == [entry["name"] for entry in theirs["env"]]
        assert ours["ports"] == theirs["ports"]
        assert ours["readinessProbe"] == theirs["readinessProbe"]
        assert ours["resources"]["limits"]["memory"] == theirs["resources"]["limits"]["memory"]


def test_jobs_find_the_chart_s_servers():
    values = ci("kind")
    services = {made["metadata"]["name"]: made["spec"] for made in of_kind("Service", values)}
    for made in of_kind("Job", values):
        for task in made["spec"]["tasks"]:
            (container,) = task["template"]["spec"]["containers"]
            variables = {entry["name"]: entry.get("value") for entry in container["env"]}
            for address in (variables.get("MLFLOW_TRACKING_URI"), variables.get("AWS_ENDPOINT_URL")):
                if address is not None:
                    host, port = re.fullmatch(r"http://([^:]+):(\d+)", address).groups()
                    assert services[host]["ports"][0]["port"] == int(port)
            if "hardviews.elastic.coordinator" not in container["command"]:
                assert "AWS_ENDPOINT_URL" in variables
                assert container["envFrom"] == [{"secretRef": {"name": "demo-hardviews-store"}}]


def test_mlflow_answers_to_its_names():
    (container,) = deployment("mlflow", ci("kind"))["containers"]
    (hosts,) = [word for word in container["command"] if word.startswith("--allowed-hosts=")]
    for name in ("demo-hardviews-mlflow:5000", "demo-hardviews-mlflow.team.svc:5000", "localhost:*"):
        assert name in hosts.split("=")[1].split(",")


def test_buckets_are_there_before_the_server_is_ready():
    values = ci("kind")
    values["objectStore"]["buckets"] = ["hardviews", "other"]
    (container,) = deployment("store", values)["containers"]
    script = container["lifecycle"]["postStart"]["exec"]["command"][-1]
    assert script.count("s3.bucket.create -name") == 2
    urls = (values["data"], values["output"])
    assert {url.split("/")[2] for url in urls} <= set(re.findall(r"create -name (\S+)'", script))


def test_a_claim_keeps_the_files():
    values = ci("options")
    for name, claim in (("store", "files"), ("mlflow", "records")):
        assert {"name": "data", "persistentVolumeClaim": {"claimName": claim}} in deployment(name, values)["volumes"]
    assert of_kind("Secret", values) == []  # an existing one is named
    assert len(of_kind("Secret", ci("kind"))) == 1


def test_policies_let_dns_the_same_job_and_the_servers_through():
    policies = {made["metadata"]["name"]: made["spec"] for made in of_kind("NetworkPolicy", ci("production"))}
    assert "ingress" not in policies["demo-hardviews-deny"]
    assert "egress" not in policies["demo-hardviews-deny"]
    assert policies.keys() >= {"demo-hardviews-pretrain", "demo-hardviews-linear", "demo-hardviews-test"}
    assert "demo-hardviews-knn" not in policies
    own = policies["demo-hardviews-pretrain"]
    (peer,) = own["ingress"][0]["from"]
    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "pretrain"
    assert {port["port"] for port in own["egress"][0]["ports"]} == {53}
    assert own["egress"][-1] == ci("production")["networkPolicy"]["egress"][0]
    servers = {made["metadata"]["name"]: made["spec"] for made in of_kind("NetworkPolicy", ci("options"))}
    assert servers["hv-store"]["ingress"][0]["ports"] == [{"port": 8333, "protocol": "TCP"}]
    assert {port["port"] for rule in servers["hv-pretrain"]["egress"] for port in rule.get("ports", [])} == {
        53,
        5000,
        8333,
    }


def test_rights_are_few():
    for name in ("kind", "production", "options", "site"):
        for made in [*of_kind("Role", ci(name)), *of_kind("ClusterRole", ci(name))]:
            for rule in made["rules"]:
                assert "*" not in str(rule)
                assert "secrets" not in rule["resources"] or (rule["resourceNames"] and rule["verbs"] == ["get"])
    (role,) = of_kind("ClusterRole", ci("kind"))
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"get", "list"}
    assert of_kind("ClusterRole", ci("production")) == []


def test_only_the_pod_of_the_test_is_a_hook():
    """The program takes every hook of a test for a pod, and looks for its log."""
    for made in objects(ci("kind")):
        hook = made["metadata"].get("annotations", {}).get("helm.sh/hook")
        assert hook == ("test" if made["kind"] == "Pod" else None)


def test_the_test_has_rights_if_they_are_made():
    (pod,) = of_kind("Pod", ci("kind"))
    (account,) = of_kind("ServiceAccount", ci("kind"))
    assert pod["spec"]["serviceAccountName"] == account["metadata"]["name"]
    assert "--queue" in pod["spec"]["containers"][0]["command"]
    (pod,) = of_kind("Pod", ci("gpu"))
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert "--queue" not in pod["spec"]["containers"][0]["command"]
    (pod,) = of_kind("Pod", {**ci("gpu"), "rbac": {"create": True}})
    command = pod["spec"]["containers"][0]["command"]
    assert command[command.index("--gpus") + 1] == "8"


def test_rights_of_users_are_among_those_that_torchx_uses():
    (role,) = of_kind("Role", ci("site"))
    read = yaml.safe_load_all((ROOT / "docs" / "rbac.yaml").read_text())
    (theirs,) = [made for made in read if made["kind"] == "Role"]

    def rights(made):
        return {
            (group, resource, verb)
            for rule in made["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }

    assert rights(role) < rights(theirs)


def test_the_service_account_is_that_of_the_pods():
    values = ci("production")
    (account,) = of_kind("ServiceAccount", values)
    assert account["automountServiceAccountToken"] is False
    for made in of_kind("Job", values):
        for task in made["spec"]["tasks"]:
            assert task["template"]["spec"]["serviceAccountName"] == account["metadata"]["name"]


def test_notes_name_every_job():
    for name in ("kind", "gpu", "evaluations", "site"):
        notes = texts(ci(name))["NOTES.txt"]
        for made in [*of_kind("Job", ci(name)), *of_kind("CronJob", ci(name))]:
            assert made["metadata"]["name"] in notes
        assert "helm test demo -n team" in notes
    assert "port-forward service/demo-hardviews-mlflow 5000" in texts(ci("kind"))["NOTES.txt"]
    assert "No job is switched on" in texts(SITE)["NOTES.txt"]
