"""Rows of results: from paired runs to a ratio, its spread, and the JSON that a benchmark writes."""

import json
import statistics

INVALID = "INVALID, above its bound: the disk or the processors were busier when the bound was measured"


def row(name, metric, ours, peer=None, peers=None, note="", digits=4):
    """`ours` and `peers` are the values of interleaved runs, in order. The ratio is the median of the paired ratios, the
    spread is (highest - lowest) / median of these ratios (of our values where there is no peer)."""
    result = {"name": name, "metric": metric, "ours": round(statistics.median(ours), digits), "runs": len(ours)}
    judged = ours
    if peers:
        judged = [a / b for a, b in zip(ours, peers)]
        result |= {"peer": peer, "peer_value": round(statistics.median(peers), digits),
                   "ratio": round(statistics.median(judged), 4), "runs": len(judged)}
    middle = statistics.median(judged)
    result["spread"] = round((max(judged) - min(judged)) / middle, 3) if middle else 0
    result["note"] = note
    return result


def skipped(name, metric, why):
    return {"name": name, "metric": metric, "skipped": why}


def write(path, bench, facts, results):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"bench": bench, **facts, "results": results}, indent=1) + "\n")


def publish(bench, facts, results, folder, record_in=None, title="", how=""):
    """Writes FOLDER/BENCH.json and prints the table; with `record_in` keeps the same there, with a page of that title."""
    for target in [folder] + ([record_in] if record_in else []):
        write(target / f"{bench}.json", bench, facts, results)
    if record_in:
        text = f"# {title}\n\nMeasured at commit {facts['commit']} by `make bench-{bench}`{how}.\n\n{table(results)}\n"
        (record_in / f"{bench}.md").write_text(text)
    print(table(results))


def table(results):
    """Markdown, for people."""
    lines = ["| row | metric | tierd | peer | its value | ratio | runs | spread | note |",
             "| --- | --- | ---: | --- | ---: | ---: | ---: | ---: | --- |"]
    for r in results:
        if "skipped" in r:
            lines.append(f"| {r['name']} | {r['metric']} | | | | | | | skipped: {r['skipped']} |")
            continue
        cells = [r["name"], r["metric"], r["ours"], r.get("peer", ""), r.get("peer_value", ""), r.get("ratio", ""),
                 r["runs"], r["spread"], r["note"]]
        lines.append("| " + " | ".join(f"{c:,.4g}" if isinstance(c, float) else str(c) for c in cells) + " |")
    return "\n".join(lines)
