"""Everything that is checked before anything is started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exporter.config import Settings, parse_upstream
from exporter.preflight import CannotUse, check, cpu_limit

CPUS = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"cpu.max": "max 100000\n"}, CPUS),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": f"{100 * 100000} 100000\n"}, CPUS),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, CPUS),
        ({"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({}, CPUS),
        ({"cpu.max": "nonsense"}, CPUS),
    ],
    ids=["v2-unlimited", "v2-half", "v2-more-than-there-are", "v1-unlimited", "v1-one-and-a-half", "none", "garbage"],
)
def test_cpu_limit_is_the_cgroups_rounded_down(tmp_path: Path, files: dict[str, str], limit: int) -> None:
    """The limit is that of the cgroup, at least 1, at most the CPUs of this process."""
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert cpu_limit(tmp_path) == limit


def test_check_of_a_file_that_is_no_certificate_names_the_setting(tmp_path: Path) -> None:
    """A file that is no PEM is one clear error before anything starts."""
    wrong = tmp_path / "tls.crt"
    wrong.write_text("not a certificate")
    settings = Settings(upstream=parse_upstream("127.0.0.1:8080"), tls_cert=str(wrong), tls_key=str(wrong))
    with pytest.raises(CannotUse, match=r"--tls-cert .*PEM"):
        check(settings)
