"""nbgrader's settings for teacher and students; `JUPYTER_CONFIG_PATH` names this folder.

The page For teachers says how assignments go out, come back and are marked.
"""

from pathlib import Path

c = get_config()
c.CourseDirectory.course_id = "imagenet-winners"
c.CourseDirectory.root = str(Path.home() / "grading")  # the teacher's
c.Exchange.root = "/srv/ilsvrc/exchange"
c.ExecutePreprocessor.timeout = 600  # seconds a cell; its own 30 are short for a busy machine
