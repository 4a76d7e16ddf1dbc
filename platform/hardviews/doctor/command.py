"""`hardviews doctor`: prints the findings of all probes."""

from hardviews.doctor.isolation import look_all
from hardviews.doctor.probes import PROBES
from hardviews.doctor.report import as_json, show
from hardviews.doctor.settings import Doctor


def run_doctor(config: Doctor) -> bool:
    """Print the report; return whether nothing is missing."""
    settings = config.settled()
    results = look_all(PROBES, settings)
    if config.json:
        whole = list(results)
        print(as_json(whole))
        return all(finding.state != "missing" for _, findings in whole for finding in findings)
    return all(finding.state != "missing" for finding in show(results))
