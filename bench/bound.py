"""The clairvoyant bound: what no policy can beat, with the same memory and the same disk.

Belady's rule on the recorded touches gives the fewest bytes that must be read; these, at the disk's best rate and fully
overlapped with the computing of a run that has everything in memory, give the most tokens a second.
"""

import heapq

import numpy

GRANULE = 64 << 10
NEVER = 1 << 60


def load_trace(path):
    return numpy.unpackbits(numpy.load(path), axis=1).astype(bool)


def next_uses(trace):
    """For each token and granule touched: the index of the next token that touches it."""
    following = numpy.full(trace.shape[1], NEVER, numpy.int64)
    result = [None] * len(trace)
    for token in range(len(trace) - 1, -1, -1):
        touched = numpy.flatnonzero(trace[token])
        result[token] = (touched, following[touched].copy())
        following[touched] = token
    return result


def belady_bytes_per_token(trace, memory_bytes):
    """Mean over all tokens but the first row, which is the prompt. Within a token granules are touched in file order.

    A next use is (token, place in the file); kept are the `memory_bytes` whose next use is nearest.
    """
    room = memory_bytes // GRANULE
    places = trace.shape[1]
    due, furthest, held, misses = {}, [], 0, 0
    for token, (touched, following) in enumerate(next_uses(trace)):
        for granule, next_token in zip(touched.tolist(), following.tolist()):
            use = next_token * places + granule if next_token != NEVER else NEVER * places
            if granule not in due:
                misses += token > 0
                held += 1
            due[granule] = use
            heapq.heappush(furthest, (-use, granule))
            while held > room:
                use_of_victim, victim = heapq.heappop(furthest)
                if due.get(victim) == -use_of_victim:
                    del due[victim]
                    held -= 1
    return misses * GRANULE / (len(trace) - 1)


def tokens_per_s(bytes_per_token, disk_bytes_per_s, resident_tokens_per_s):
    return 1 / max(bytes_per_token / disk_bytes_per_s, 1 / resident_tokens_per_s)
