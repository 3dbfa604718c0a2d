"""llama.cpp says the same tokens whatever tierd does or does not do."""

import json
import unittest

import engines

TOKENS = 16
PATIENCE_S = 10  # what a silent socket may cost at most, on a machine that is busy with other things too


def last_record(output):
    return json.loads(output.splitlines()[-1])


class Llama(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = engines.gguf_model()
        cls.command = cls.engine("llama_run.py")
        cls.plain = last_record(engines.run(cls.command))

    @classmethod
    def engine(cls, script):
        path = engines.ROOT / "scripts" / "engines" / script
        # One thread: the engine's threads spin while they wait for each other, and tierd needs a core too.
        return [engines.PYTHON, path, "--model", cls.model, "--tokens", TOKENS, "--threads", 1]

    def assert_same_tokens(self, record):
        self.assertEqual(len(record["tokens"]), TOKENS)
        self.assertEqual(record["tokens"], self.plain["tokens"])

    def preloaded_run(self, socket_path):
        record = last_record(engines.run(self.command, engines.preloaded(socket_path)))
        self.assert_same_tokens(record)
        self.assertLess(record["load_s"], self.plain["load_s"] + PATIENCE_S)

    def test_preloaded_without_a_daemon(self):
        self.preloaded_run("/nowhere/tierd.sock")

    def test_preloaded_with_a_socket_that_takes_connections_and_never_answers(self):
        with engines.hostile_socket(accepts=True) as path:
            self.preloaded_run(path)

    def test_preloaded_with_a_socket_that_takes_no_connections(self):
        with engines.hostile_socket(accepts=False) as path:
            self.preloaded_run(path)

    def test_under_tierd(self):
        output, status = engines.under_tierd(self.command)
        self.assert_same_tokens(last_record(output))
        self.assertGreater(status["counters"]["bytes_read"], 0, "tierd served nothing")

    def test_under_tierd_with_less_memory_than_the_model(self):
        output, status = engines.under_tierd(self.command, "--budget", "128MiB")
        self.assert_same_tokens(last_record(output))
        self.assertGreater(status["counters"]["evictions"], 0)
        self.assertLessEqual(status["resident_peak_bytes"], 128 << 20)

    def test_two_at_once_share_one_copy(self):
        output, status = engines.under_tierd(self.engine("pair_run.py"))
        both = last_record(output)
        self.assert_same_tokens(both["first"])
        self.assert_same_tokens(both["second"])
        self.assertLess(status["counters"]["bytes_read"], 300 << 20, "the model was read more than once")


if __name__ == "__main__":
    engines.main()
