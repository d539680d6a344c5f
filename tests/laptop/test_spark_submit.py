"""How a laptop starts the jobs of a template."""

import json
import subprocess
from pathlib import Path

import pytest

from laptop.dataproc.java import java_home
from laptop.dataproc.spark_submit import environment, local_path, submit
from laptop.errors import ServiceError


def test_a_jobs_file_is_an_object_of_its_bucket(tmp_path: Path) -> None:
    """Not a file elsewhere that a link in the bucket's folder means, nor one that the path leads out to."""
    (tmp_path / "outside.py").write_text("")
    bucket = tmp_path / "buckets" / "one"
    (bucket / "code").mkdir(parents=True)
    (bucket / "code" / "job.py").write_text("")
    (bucket / "link.py").symlink_to(tmp_path / "outside.py")
    (bucket / "inner.py").symlink_to(bucket / "code" / "job.py")
    (bucket / "folder").symlink_to(bucket / "code")
    assert local_path(tmp_path / "buckets", "gs://one/code/job.py") == bucket / "code" / "job.py"
    for name in ("link.py", "inner.py", "folder/job.py"):
        with pytest.raises(ServiceError, match="symbolic link"):
            local_path(tmp_path / "buckets", f"gs://one/{name}")
    for name in ("../../outside.py", "nothing.py", "code"):
        with pytest.raises(ServiceError):
            local_path(tmp_path / "buckets", f"gs://one/{name}")


@pytest.mark.spark
def test_a_driver_imports_the_compiled_pyspark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's options reach its Java, and pyspark comes from this environment, for its workers too: from Spark's
    zip, Python would compile it anew in every job."""
    program = tmp_path / "one.py"
    program.write_text(
        "import json, pyspark, sys\n"
        "from pyspark import SparkContext\n"
        "context = SparkContext.getOrCreate()\n"
        "java = context._jvm.java.lang\n"
        "memory = java.Runtime.getRuntime().maxMemory()\n"
        "workers = context.parallelize([1], 1).map(lambda _: __import__('pyspark').__cached__).collect()\n"
        "told = [java.System.getProperty('told'), memory, context.getConf().get('spark.driver.memory'), *sys.argv]\n"
        "print(json.dumps([[pyspark.__cached__, *workers], *told]))\n"
    )
    java = java_home()
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    conf = {
        "spark.driver.extraJavaOptions": '-Dtold="zwei Wörter" -XX:TieredStopAtLevel=1',
        "spark.driver.memory": "600m",
        "spark.ui.enabled": "false",
    }
    line = [*submit(conf, java, {"SPARK_SUBMIT_OPTS": "-Dtold.too=1"}), str(program), "an argument"]
    assert "-Dtold.too=1" in line
    done = subprocess.run(line, env=environment({}, java), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    compiled, words, memory, setting, *arguments = json.loads(done.stdout)
    assert [Path(one).is_file() for one in compiled] == [True, True]
    assert words == "zwei Wörter"
    assert 500e6 < memory < 650e6
    assert setting == "600m"
    assert arguments == [str(program), "an argument"]


def test_what_no_driver_starts_with_is_refused() -> None:
    """A property that Spark refuses to start a driver with is an error in Spark's own words."""
    conf = {"spark.driver.extraJavaOptions": "-Xmx1g"}
    with pytest.raises(ServiceError, match="Not allowed to specify max heap"):
        submit(conf, java_home())


def test_a_java_that_does_not_run_is_named(tmp_path: Path) -> None:
    """A job fails with the cause, and the server goes on."""
    with pytest.raises(ServiceError, match=r"launcher does not run: .*no-java"):
        submit({}, tmp_path / "no-java")
