"""An SVG bar chart of the rows that have a peer: ratio ours / peer, on a logarithmic scale around 1."""

import html
import math

LINE, LEFT, WIDTH = 22, 260, 900


def svg(results, title):
    rows = [r for r in results if r.get("ratio")]
    reach = max([abs(math.log10(r["ratio"])) for r in rows] + [1])
    middle, half = LEFT + (WIDTH - LEFT) / 2, (WIDTH - LEFT) / 2 - 60
    height = (len(rows) + 3) * LINE
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
             f'<text x="8" y="18" font-size="14">{html.escape(title)}: ours / peer, 1 in the middle</text>',
             f'<line x1="{middle}" x2="{middle}" y1="{LINE}" y2="{height - LINE}" stroke="#888"/>']
    for number, r in enumerate(rows):
        y, length = (number + 1.5) * LINE, math.log10(r["ratio"]) / reach * half
        end = middle + length
        parts += [f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{html.escape(r["name"])}</text>',
                  f'<rect x="{min(middle, end):.1f}" y="{y}" width="{abs(length):.1f}" height="{LINE - 6}" '
                  f'fill="{"#2b7a4b" if length >= 0 else "#b0413e"}"/>',
                  f'<text x="{end + (4 if length >= 0 else -4):.1f}" y="{y + 12}" '
                  f'text-anchor="{"start" if length >= 0 else "end"}">{r["ratio"]:.3g}</text>']
    return "\n".join(parts + ["</svg>", ""])
