"""The Python client on real farms: client.py, with PYTF as the program and the module in PYTHONPATH."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from dataclasses import asdict
from pathlib import Path

from pytf_hpc import NotRunning, PytfError, Result, Run

PYTF = os.environ["PYTF"]


class Client(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.run_ = Run(self.folder / "w")

    def start(self, *options):
        """A process of the run; it is over when the test is."""
        farm = subprocess.Popen(
            [PYTF, "--workdir", "w", "--proc", "2", "--no-timeline", "-q", *options],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

        def end():
            if farm.poll() is None:
                farm.kill()
            farm.wait()

        self.addCleanup(end)
        return farm

    def until(self, holds):
        for _ in range(1200):
            if holds():
                return
            time.sleep(0.05)
        self.fail("waited in vain")

    def test_results_come_once_whatever_is_killed(self):
        run = self.run_
        ids = run.add(f"sleep 0.05; echo task {number}; exit {int(number % 20 == 7)}" for number in range(60))
        self.assertEqual(ids, list(range(60)))
        first, second = self.start(), self.start()
        results = []
        for result in run.as_completed(ids, timeout=120):
            results.append(result)
            if len(results) == 10:
                first.kill()
        self.assertEqual(sorted(result.id for result in results), ids)
        self.assertEqual(second.wait(), 1)
        self.assertEqual(sorted(result.id for result in results if not result.ok), [7, 27, 47])
        for result in results:
            self.assertEqual((result.place, result.status), ("finished", 0) if result.ok else ("failed", 1))
            self.assertEqual(result.outcome, "exit")
            self.assertGreaterEqual(result.attempts, 1)
            self.assertGreater(result.seconds, 0.04)
            self.assertIn(f"task {result.id}\n", Path(result.log).read_text())
            self.assertEqual(run.log(result.id), f"task {result.id}\n")
        # The same again, when all is over, and for tables.
        rows = [asdict(result) for result in run.as_completed()]
        self.assertEqual(sorted(row["id"] for row in rows), ids)
        self.assertEqual({result.id for result in run.results([3, 4, 5, 59])}, {3, 4, 5, 59})

    def test_waits_for_tasks_and_says_why_it_ends(self):
        run = self.run_
        run.add(["test -e there", "true"])
        with self.assertRaises(NotRunning) as raised:
            run.wait(while_running=True)
        with self.assertRaises(NotRunning):
            list(run.as_completed(while_running=True))
        self.assertEqual(raised.exception.status, 75)
        with self.assertRaises(TimeoutError):
            list(run.as_completed([0], timeout=0.3))
        self.assertEqual(self.start().wait(), 1)
        self.assertFalse(run.wait())
        self.assertTrue(run.wait([1]))
        self.assertTrue(run.wait([]))
        status = run.status()
        self.assertEqual((status.state, status.total, status.finished, status.failed), ("complete", 2, 1, 1))
        (self.folder / "there").touch()
        run.retry([0])
        self.assertEqual([result.id for result in run.results()], [1])
        self.start()
        self.assertTrue(run.wait(timeout=60))
        (again,) = run.results(0)
        self.assertEqual((again.ok, again.attempts), (True, 2))

    def test_steers_a_run(self):
        run = self.run_
        (task,) = run.add("until [ -e there ]; do sleep 0.05; done")
        farm = self.start()
        self.until(lambda: run.running())
        self.assertEqual(run.task(task)["place"], "running")
        with self.assertRaises(TimeoutError):
            run.wait(timeout=0.2)
        run.pause()
        self.assertTrue(run.status().paused)
        run.resume()
        self.assertFalse(run.status().paused)
        (self.folder / "there").touch()
        self.assertEqual(farm.wait(), 0)
        run.stop()
        run.drain()

    def test_cancels_tasks(self):
        run = self.run_
        waiting, left = run.add(["true", "true"])
        run.cancel([waiting], reason="not needed")
        self.start().wait()
        (result,) = run.results(waiting)
        self.assertEqual((result.ok, result.place), (False, "cancelled"))
        self.assertTrue(run.wait([left]))

    def test_a_farm_that_follows_ends_when_the_run_is_closed(self):
        run = self.run_
        first = run.add("echo first")
        farm = self.start("--follow")
        self.assertTrue(run.wait(first, timeout=60))
        second = run.add(["echo second", "echo 'it is # one \"line\"' $((1 + 1))"])
        self.assertTrue(run.wait(second, timeout=60))
        self.assertEqual(run.log(second[1]), 'it is # one "line" 2\n')
        run.close()
        self.assertEqual(farm.wait(), 0)

    def test_what_is_refused_is_an_error_with_its_reason(self):
        with self.assertRaises(PytfError) as raised:
            self.run_.status()
        self.assertNotEqual(raised.exception.status, 0)
        self.assertIn(str(self.folder / "w"), raised.exception.message)
        self.assertNotIn("pytf: ", raised.exception.message)
        for line in ["", "  ", "# no", "a\nb", "a\0", "a \\"]:
            with self.assertRaises(ValueError):
                self.run_.add(["true", line])
        self.assertEqual(self.run_.add([]), [])
        self.assertFalse((self.folder / "w").exists())

    def test_the_program_is_that_of_the_variable(self):
        self.assertEqual(Run("w").pytf, PYTF)
        self.assertEqual(Run("w", pytf="/there/pytf").pytf, "/there/pytf")
        self.assertIn("id", Result.__dataclass_fields__)


if __name__ == "__main__":
    sys.exit(unittest.main())
