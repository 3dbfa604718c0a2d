"""safetensors and numpy get the file's bytes from tierd, and what they write to private mappings stays theirs."""

import json
import unittest

import engines


class Safetensors(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.file = engines.sentence_model()

    def hashes(self):
        return [engines.PYTHON, engines.ROOT / "scripts" / "engines" / "safetensors_hashes.py", self.file]

    def test_every_tensor_has_the_same_bytes_under_tierd(self):
        plain = json.loads(engines.run(self.hashes()))
        output, status = engines.under_tierd(self.hashes())
        self.assertGreater(len(plain), 100)
        self.assertEqual(json.loads(output), plain)
        self.assertGreater(status["counters"]["bytes_read"], 0, "tierd served nothing")

    def test_every_tensor_has_the_same_bytes_with_less_memory_than_the_model(self):
        plain = json.loads(engines.run(self.hashes()))
        output, status = engines.under_tierd(self.hashes(), "--budget", "32MiB")
        self.assertEqual(json.loads(output), plain)
        self.assertLessEqual(status["resident_peak_bytes"], 32 << 20)

    def test_writes_to_a_private_mapping_stay_private_and_survive_eviction(self):
        writer = [engines.PYTHON, engines.ROOT / "tests" / "engines" / "private_writes.py", self.file]
        output, status = engines.under_tierd(writer, "--budget", "32MiB")
        self.assertEqual(output, "ok\n")
        self.assertGreater(status["counters"]["evictions"], 0)


if __name__ == "__main__":
    engines.main()
