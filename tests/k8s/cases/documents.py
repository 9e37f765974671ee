"""docs/KUBERNETES.md: each block of YAML and each command of it is run.

`yaml values` is rendered with the chart and taken by the server without keeping anything; `yaml` is taken by the server the same
way; `sh` is run, in order, in one namespace, with `helm install` and `helm upgrade` given what this cluster needs.
"""

import re
import shlex

import kube
from kube import Failed, run

ALONE = True
PAGE = kube.HERE.parent.parent / "docs" / "KUBERNETES.md"


def blocks():
    """Info string, text and line of each fenced block."""
    found, info, lines, begun = [], None, [], 0
    for number, line in enumerate(PAGE.read_text().splitlines(), 1):
        fence = re.match(r"\s*```(.*)$", line)
        if fence and info is None:
            info, lines, begun = fence.group(1).strip(), [], number
        elif fence:
            found.append((info, "\n".join(lines) + "\n", begun))
            info = None
        elif info is not None:
            lines.append(line)
    return found


def case_every_block_is_of_a_kind_that_is_run(release):
    kinds = {"sh", "yaml", "yaml values", "text", "python"}
    strange = [f"line {line}: {info!r}" for info, _, line in blocks() if info not in kinds]
    if strange:
        raise Failed("; ".join(strange))
    return f"{len(blocks())} blocks"


def case_values_are_taken(release):
    checked = 0
    for info, text, line in blocks():
        if info != "yaml values":
            continue
        try:
            rendered = release.helm("template", "doc", kube.CHART, "--skip-tests", *release.values(), "-f", "-", text=text)
            ours = rendered.replace(f"namespace: {release.namespace}\n", "namespace: default\n")
            kube.kubectl("apply", "--dry-run=server", "-f", "-", text=without_namespaces(ours))
        except Failed as error:
            raise Failed(f"{PAGE.name}:{line}: {error}") from error
        checked += 1
    return f"{checked} blocks"


def without_namespaces(rendered):
    """Leaves out the objects of namespaces that this cluster does not have."""
    there = {namespace["metadata"]["name"] for namespace in kube.items("namespaces")}
    documents = rendered.split("\n---\n")
    places = [re.search(r"^  namespace: (\S+)$", document, re.MULTILINE) for document in documents]
    return "\n---\n".join(d for d, place in zip(documents, places, strict=True) if not place or place.group(1) in there)


def case_commands_run_in_order(release):
    """In the page's namespace, on nodes whose folders of an earlier installation are removed before."""
    page = kube.Release(release.image)
    page.forget()
    extra = " ".join(shlex.quote(part) for part in page.values())
    prelude = f"""
set -euo pipefail
cd {shlex.quote(str(kube.HERE.parent.parent))}
helm() {{ case $1 in install | upgrade) command {shlex.quote(page.program())} "$@" {extra} ;; *) command {shlex.quote(page.program())} "$@" ;; esac; }}
"""
    done = 0
    for info, text, line in blocks():
        if info != "sh":
            continue
        try:
            run("bash", "-c", prelude + text, limit=600)
        except Failed as error:
            raise Failed(f"{PAGE.name}:{line}: {str(error)[-1500:]}") from error
        done += 1
    return f"{done} blocks"


def case_objects_are_taken(release):
    """After the commands: the objects may name what these made."""
    checked = 0
    for info, text, line in blocks():
        if info != "yaml":
            continue
        try:
            kube.kubectl("apply", "--dry-run=server", "-f", "-", text=text)
        except Failed as error:
            raise Failed(f"{PAGE.name}:{line}: {error}") from error
        checked += 1
    return f"{checked} blocks"
