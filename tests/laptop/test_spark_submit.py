"""How a laptop starts the jobs of a template."""

import subprocess
from pathlib import Path

import pytest

from laptop.dataproc.java import java_home
from laptop.dataproc.spark_submit import environment, submit
from laptop.errors import ServiceError


@pytest.mark.spark
def test_a_driver_imports_the_compiled_pyspark(tmp_path: Path) -> None:
    """The driver's options reach its Java, and pyspark comes from this environment: from Spark's zip, Python would
    compile it anew in every job."""
    program = tmp_path / "one.py"
    program.write_text(
        "import pyspark, sys\n"
        "from pyspark import SparkContext\n"
        "context = SparkContext.getOrCreate()\n"
        "java = context._jvm.java.lang\n"
        "memory = java.Runtime.getRuntime().maxMemory()\n"
        "print(pyspark.__cached__, java.System.getProperty('told'), memory, *sys.argv)\n"
    )
    java = java_home()
    conf = {
        "spark.driver.extraJavaOptions": '-Dtold="two words" -XX:TieredStopAtLevel=1',
        "spark.driver.memory": "600m",
        "spark.ui.enabled": "false",
    }
    line = [*submit(conf, java), str(program), "an argument"]
    done = subprocess.run(line, env=environment({}, java), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    compiled, *told = done.stdout.split()
    assert Path(compiled).is_file()
    assert told[:2] == ["two", "words"]
    assert 500e6 < int(told[2]) < 650e6
    assert told[3:] == [str(program), "an", "argument"]


def test_what_no_driver_starts_with_is_refused() -> None:
    """A property that Spark refuses to start a driver with is an error in Spark's own words."""
    conf = {"spark.driver.extraJavaOptions": "-Xmx1g"}
    with pytest.raises(ServiceError, match="Not allowed to specify max heap"):
        submit(conf, java_home())
