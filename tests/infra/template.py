"""A synthesized template as a deployment in one account and region would see it."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ACCOUNT = "111111111111"
REGION = "us-east-1"
_PSEUDO = {"AWS::AccountId": ACCOUNT, "AWS::Region": REGION, "AWS::Partition": "aws"}


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource; its properties are resolved."""

    logical_id: str
    kind: str
    properties: Mapping[str, Any]
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Template:
    """One stack's template. References become `<LogicalId>`, attributes `<LogicalId.Attribute>`."""

    raw: Mapping[str, Any]
    exports: Mapping[str, str] = field(default_factory=dict)
    """What other stacks of the deployment export, resolved."""
    _resources: list[Resource] = field(default_factory=list)

    def all(self, kind: str = "") -> list[Resource]:
        """The resources of a kind, or all."""
        if not self._resources:
            self._resources.extend(self._read())
        return [one for one in self._resources if kind in {"", one.kind}]

    def one(self, kind: str, **properties: Any) -> Resource:
        """The one resource of a kind that has these properties."""
        wanted = properties.items()
        found = [one for one in self.all(kind) if wanted <= _hashable(one.properties).items()]
        assert len(found) == 1, f"{len(found)} of {kind} with {properties}"
        return found[0]

    def _read(self) -> Iterator[Resource]:
        for logical_id, raw in self.raw["Resources"].items():
            yield Resource(logical_id, raw["Type"], self.resolved(raw.get("Properties", {})), raw)

    def resolved(self, value: Any) -> Any:  # noqa: PLR0911 (a table)
        """A value of the template without functions of CloudFormation's."""
        match value:
            case {"Ref": name}:
                return _PSEUDO.get(name, f"<{name}>")
            case {"Fn::GetAtt": [name, attribute]}:
                return f"<{name}.{attribute}>"
            case {"Fn::ImportValue": name}:
                return self.exports[name]
            case {"Fn::Join": [between, parts]}:
                return between.join(self.resolved(part) for part in parts)
            case {"Fn::Sub": [text, symbols]}:
                return _substituted(text, self.resolved(symbols))
            case {"Fn::Sub": text}:
                return _substituted(text, {})
            case dict():
                return {name: self.resolved(one) for name, one in value.items()}
            case list():
                return [self.resolved(one) for one in value]
        return value


def templates_in(folder: Path) -> dict[str, Template]:
    """The templates of a cloud assembly by the last word of their stacks' names."""
    raw = {
        path.name.split(".")[0].split("-")[-1]: json.loads(path.read_text())
        for path in folder.glob("*.template.json")
    }
    exports = {
        output["Export"]["Name"]: Template(one).resolved(output["Value"])
        for one in raw.values()
        for output in one.get("Outputs", {}).values()
        if "Export" in output
    }
    return {name: Template(one, exports) for name, one in raw.items()}


def _substituted(text: str, symbols: Mapping[str, str]) -> str:
    return re.sub(r"\$\{([\w:]+)\}", lambda found: {**_PSEUDO, **symbols}[found[1]], text)


def _hashable(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in properties.items() if isinstance(value, str | int)}
