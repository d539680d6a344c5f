"""Jobs start with the classes that Java has kept."""

import subprocess
import sys
from pathlib import Path

import pytest

from laptop.dataproc import class_archive, make_class_archive
from laptop.dataproc.java import java_home, version
from laptop.dataproc.spark_submit import environment, submit


def test_a_java_of_another_release_at_the_same_place_is_another_one(tmp_path: Path) -> None:
    """After an upgrade in place the archive is not used; and two names of one Java are the same."""
    home, folder = tmp_path / "home", tmp_path / "archive"
    home.mkdir()
    folder.mkdir()
    (home / "release").write_text('JAVA_VERSION="17.0.15"')
    (folder / class_archive.MADE_BY).write_text(class_archive.identity(home))
    link = tmp_path / "default"
    link.symlink_to(home)
    assert class_archive.options(link, folder)
    (home / "release").write_text('JAVA_VERSION="17.0.16"')
    assert class_archive.options(home, folder) == ""


def test_only_the_java_that_made_it_uses_an_archive(tmp_path: Path) -> None:
    """No archive, no option; none for another Java; and a blank in the folder's name splits no option."""
    folder = tmp_path / "of mine"
    assert class_archive.options(Path("/java"), folder) == ""
    folder.mkdir()
    (folder / class_archive.MADE_BY).write_text(class_archive.identity(Path("/java")))
    assert class_archive.options(Path("/another"), folder) == ""
    assert class_archive.options(Path("/java"), folder) == (
        f'-XX:SharedArchiveFile="{folder}/java.jsa:{folder}/spark.jsa"'
    )


def test_a_java_that_cannot_leaves_no_archive(tmp_path: Path) -> None:
    """It says why, and jobs go without; also if there was an archive before."""
    java = tmp_path / "home" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text("#!/bin/sh\necho 'Unrecognized option: -Xshare:dump'\nexit 1\n")
    java.chmod(0o755)
    home, folder = tmp_path / "home", tmp_path / "archive"
    folder.mkdir()
    (folder / class_archive.MADE_BY).write_text(class_archive.identity(home))
    assert class_archive.options(home, folder)
    with pytest.raises(make_class_archive.NotMadeError, match="Unrecognized option: -Xshare:dump"):
        make_class_archive.make(home, folder)
    assert class_archive.options(home, folder) == ""


@pytest.mark.spark
def test_spark_starts_with_the_archive_of_this_environment(tmp_path: Path) -> None:
    """Most classes of a session come from the archive; a folder linked under a name with a blank does as well."""
    java = java_home()
    tried = (Path(sys.prefix) / "class-archive.tried").exists()  # by nox: then a Java that can must have one
    if not class_archive.options(java) and (not tried or (version(java) or 0) < 13):
        pytest.skip("this environment has no archive: python -m laptop.dataproc.make_class_archive")
    linked = tmp_path / "with a blank"
    linked.symlink_to(class_archive.FOLDER)
    program, log = tmp_path / "one.py", tmp_path / "classes.log"
    program.write_text("from pyspark.sql import SparkSession\nSparkSession.builder.getOrCreate().range(3).collect()\n")
    options = f"{class_archive.options(java, linked)} -Xlog:class+load:file={log}"
    conf = {"spark.driver.extraJavaOptions": options, "spark.ui.enabled": "false"}
    line, variables = [*submit(conf, java), str(program)], environment({}, java)
    done = subprocess.run(line, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = log.read_text().splitlines()
    shared = [line for line in loaded if "shared objects file" in line and " org.apache.spark." in line]
    read = [line for line in loaded if ".jar" in line and " org.apache.spark." in line]
    assert len(shared) > 2000
    assert len(read) < len(shared) / 10
