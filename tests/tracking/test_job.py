from hardviews.tracking.job import job_tags


def test_what_launcher_and_image_say_becomes_tags():
    variables = {
        "TORCHX_JOB_ID": "kubernetes://torchx/pretrain-abc",
        "HARDVIEWS_IMAGE": "registry/hardviews@sha256:12",
        "HARDVIEWS_COMMIT": "c0ffee",
        "PATH": "/bin",
    }
    assert job_tags(variables) == {
        "hardviews.job": "kubernetes://torchx/pretrain-abc",
        "hardviews.scheduler": "kubernetes",
        "hardviews.image": "registry/hardviews@sha256:12",
        "mlflow.source.git.commit": "c0ffee",
    }


def test_the_namespace_of_the_pod_is_a_part_of_the_jobs_name():
    variables = {"TORCHX_JOB_ID": "kubernetes://torchx/pretrain-abc", "HARDVIEWS_NAMESPACE": "vision"}
    assert job_tags(variables)["hardviews.job"] == "kubernetes://torchx/vision:pretrain-abc"
    known = variables | {"TORCHX_JOB_ID": "kubernetes://torchx/lab:pretrain-abc"}
    assert job_tags(known)["hardviews.job"] == "kubernetes://torchx/lab:pretrain-abc"
    here = variables | {"TORCHX_JOB_ID": "local_cwd://torchx/pretrain-abc"}
    assert job_tags(here)["hardviews.job"] == "local_cwd://torchx/pretrain-abc"


def test_without_a_launcher_there_is_nothing_to_say():
    assert job_tags({"HARDVIEWS_COMMIT": "", "TORCHX_JOB_ID": "odd"}) == {"hardviews.job": "odd"}
