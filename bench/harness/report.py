"""Results as lines, tables and plots: the newest of each benchmark, between two marks of docs/BENCHMARKS.md."""

import json
from pathlib import Path

BEGIN, END = "<!-- results: written by scripts/bench -->", "<!-- end of results -->"
NAMES = {"ours": "SteadFS", "theirs": "Apache HDFS", "machine": "the machine", "empty": "empty call", "beside": "the other",
         "alone": "without it"}
# What else is told of a side, by its key: heading, and how it is written.
MORE = {"p50_us": ("p50 µs", "{:,.0f}"), "p99_us": ("p99 µs", "{:,.0f}"), "server_cpu_us": ("server µs a call", "{:.1f}"),
        "client_cpu_us": ("client µs a call", "{:.1f}"), "server_cpu_s_per_gb": ("server core-s a GB", "{:.2f}"),
        "client_cpu_s_per_gb": ("client core-s a GB", "{:.2f}")}


def figure(value):
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def line(case):
    sides = ", ".join(f"{side} {figure(found['median']['value'])}" for side, found in case["sides"].items())
    ratio = f", ratio {case['ratio']:.2f}" if case["ratio"] else ""
    aims = "".join(f"; aim {aim['number']} ({aim['what']}): {'reached' if aim['reached'] else 'missed'}"
                   for aim in case["aims"])
    return f"{case['label']}: {sides} {case['unit']}{ratio}{aims}"


def newest(folder):
    """The newest result of each benchmark, by name."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text())
        found[result["name"]] = result
    return found


def detail(median):
    told = [f"{heading} {form.format(median[key])}" for key, (heading, form) in MORE.items() if key in median]
    return f" ({', '.join(told)})" if told else ""


def table(results):
    rows = ["| benchmark | case | SteadFS | beside it | ratio | aims |", "| --- | --- | --- | --- | --- | --- |"]
    for result in results:
        for case in result["cases"]:
            ours = case["sides"]["ours"]["median"]
            others = "; ".join(f"{NAMES.get(side, side)} {figure(found['median']['value'])}{detail(found['median'])}"
                               for side, found in case["sides"].items() if side != "ours")
            aims = "; ".join(f"{aim['number']}: {aim['what']}, {'reached' if aim['reached'] else '**missed**'}"
                             for aim in case["aims"])
            rows.append(f"| `{result['name']}` | {case['label']}, {case['unit']} | {figure(ours['value'])}{detail(ours)} | "
                        f"{others} | {'' if not case['ratio'] else format(case['ratio'], '.2f')} | {aims} |")
    return "\n".join(rows)


def conditions(results):
    """The machine and its state, once for all results that share them."""
    groups = {}
    for result in results:
        machine = result["machine"]
        busy = "nothing else ran" if machine["busy_at_start"] <= 0.10 else "**others worked at the same time**"
        key = (result["date"], machine["processor"], machine["cores"], machine["memory_gib"], machine["kernel"],
               machine["file_system"], machine["java"], machine["versions"]["commit"], machine["versions"]["hadoop"], busy)
        groups.setdefault(key, []).append(result)
    lines = []
    for key, members in groups.items():
        date, processor, cores, memory, kernel, file_system, java, commit, hadoop, busy = key
        rounds = sorted({case["rounds"] for member in members for case in member["cases"]})
        shares = [member["machine"]["busy_at_start"] for member in members]
        lines.append(f"* {date}, commit {commit}, Apache HDFS {hadoop} on {java}; {processor}, {cores} cores, {memory} GiB, Linux "
                     f"{kernel}, {file_system}; medians of {', '.join(map(str, rounds))} rounds; {busy} ({min(shares):.0%} to "
                     f"{max(shares):.0%} of the processors before each): "
                     + ", ".join(f"`{member['name']}`" for member in members) + ".")
    return "\n".join(lines)


def bars(results, title):
    """A plot of ratios as SVG: one bar a case, with a mark where both sides are equal."""
    rows = [(f"{result['name']}: {case['label']}", case["ratio"]) for result in results for case in result["cases"]
            if case["ratio"] and "theirs" in case["sides"]]
    left, width, height, top = 380, 420, 22, 40
    most = max([ratio for _, ratio in rows] + [4.0])
    scale = width / most
    total = top + height * len(rows) + 30
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 60}" height="{total}" '
           f'font-family="sans-serif" font-size="12">',
           f'<rect width="100%" height="100%" fill="white"/><text x="10" y="20" font-size="14">{escape(title)}</text>']
    for mark, name in ((1, "equal"), (4, "4 ×")):
        x = left + mark * scale
        out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top - 6}" y2="{total - 22}" stroke="#888" stroke-dasharray="3 3"/>'
                   f'<text x="{x:.1f}" y="{total - 8}" text-anchor="middle" fill="#555">{name}</text>')
    for index, (name, ratio) in enumerate(rows):
        y = top + index * height
        color = "#2a7f4f" if ratio >= 1 else "#b5462f"
        out.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>'
                   f'<rect x="{left}" y="{y + 3}" width="{ratio * scale:.1f}" height="{height - 6}" fill="{color}"/>'
                   f'<text x="{left + ratio * scale + 5:.1f}" y="{y + 15}">{ratio:.2f}</text>')
    return "\n".join([*out, "</svg>", ""])


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def write(root, benchmarks):
    """Puts the newest results into docs/BENCHMARKS.md, in the order of the benchmarks."""
    found = newest(root / "bench" / "results")
    results = [found[benchmark.name] for benchmark in benchmarks if benchmark.name in found]
    if not results:
        return
    plot = root / "docs" / "benchmarks.svg"
    plot.write_text(bars(results, "SteadFS beside Apache HDFS: more is better for SteadFS"))
    page = root / "docs" / "BENCHMARKS.md"
    text = page.read_text()
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    page.write_text(f"{before}{BEGIN}\n\n{conditions(results)}\n\n![Ratios](benchmarks.svg)\n\n{table(results)}\n\n{END}{after}")


if __name__ == "__main__":
    # The tables alone, from what was measured before.
    from run import ALL
    write(Path(__file__).resolve().parent.parent.parent, ALL)
