#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What Kubernetes and Helm themselves say about manifests and charts, for the tests of them.

    kubernetes.py check                    manifests on stdin, a JSON array
    kubernetes.py render CHART NAMESPACE   values on stdin, a JSON object
    kubernetes.py lint CHART               the same

`check` prints what is wrong, a line each, by the strict published schemas of every version of
Kubernetes there is. `render` prints the manifests, a YAML stream, as `helm template` does; `lint` what
`helm lint --strict` has to say. The exit code is 1 if anything is wrong.
"""

import json
import sys
from pathlib import Path

TOOLS = Path("/usr/local/lib/wedge-tests")
SCHEMAS = TOOLS / "kubernetes_validate/kubernetes-json-schema"


def check():
    import jsonschema

    class Resolver(jsonschema.RefResolver):
        # Debian's searches all there is for anchors, each time.
        def resolve_fragment(self, document, fragment):
            return document["$defs"][fragment.removeprefix("/$defs/")]

    manifests = json.load(sys.stdin)
    for version in sorted(SCHEMAS.glob("v*-local-strict")):
        definitions = json.loads((version / "_definitions.json").read_text())
        for manifest in manifests:
            group = manifest["apiVersion"].split("/")
            group[0] = group[0].split(".")[0]
            kind = manifest["kind"].lower()
            file = version / f"{kind}-{'-'.join(group)}.json"
            if not file.exists():
                yield f"{version.name}: no {kind} in {manifest['apiVersion']}"
                continue
            schema = json.loads(file.read_text())
            known = {definitions["$id"]: definitions}
            resolver = Resolver(schema["$id"], schema, store=known)
            validator = jsonschema.Draft202012Validator(schema, resolver=resolver)
            for error in validator.iter_errors(manifest):
                yield f"{version.name}: {kind}{error.json_path[1:]}: {error.message}"


def helm():
    sys.path.insert(0, str(TOOLS))
    import helm_python

    return helm_python


def render(chart, namespace):
    try:
        values = json.load(sys.stdin)
        manifests = helm().Chart.load(chart).render(values, name="wedge", namespace=namespace)
    except helm().HelmError as error:
        yield str(error)
        return
    for _, text in sorted(manifests.items()):
        print("---", text, sep="\n")


def lint(chart):
    for message in helm().lint(chart, json.load(sys.stdin), strict=True)["messages"]:
        # What is only informative is that the chart has no icon.
        if message["severity"] > 1:
            yield f"{message['path']}: {message['error']}"


wrong = list({"check": check, "render": render, "lint": lint}[sys.argv[1]](*sys.argv[2:]))
print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr)
sys.exit(bool(wrong))
