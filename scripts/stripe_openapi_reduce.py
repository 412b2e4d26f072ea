"""Builds tests/data/stripe-openapi-reduced.json from the installed `stripe` package (stdlib only).

Usage: python scripts/stripe_openapi_reduce.py OUT.json      (with the stripe package importable)

The SDK sources are generated from Stripe's OpenAPI description, so their class bodies carry the
field names, the enums and the optional/required split for exactly the API version that the SDK pins.
Nothing is executed: every module is read with `ast`.
"""
import ast, importlib.util, json, pathlib, re, sys

ROOT = pathlib.Path(importlib.util.find_spec("stripe").origin).parent

# object name -> module (relative to the package), kept as components
KEEP = {
    "billing.meter": "billing/_meter.py",
    "billing.meter_event": "billing/_meter_event.py",
    "billing.meter_event_adjustment": "billing/_meter_event_adjustment.py",
    "billing.meter_event_summary": "billing/_meter_event_summary.py",
    "billing.alert": "billing/_alert.py",
    "billing.alert_triggered": "billing/_alert_triggered.py",
    "billing.credit_grant": "billing/_credit_grant.py",
    "billing.credit_balance_summary": "billing/_credit_balance_summary.py",
    "billing.credit_balance_transaction": "billing/_credit_balance_transaction.py",
    "customer": "_customer.py",
    "product": "_product.py",
    "price": "_price.py",
    "plan": "_plan.py",
    "subscription": "_subscription.py",
    "subscription_item": "_subscription_item.py",
    "invoice": "_invoice.py",
    "line_item": "_invoice_line_item.py",
    "invoiceitem": "_invoice_item.py",
    "test_helpers.test_clock": "test_helpers/_test_clock.py",
    "event": "_event.py",
    "webhook_endpoint": "_webhook_endpoint.py",
    "v2.billing.meter_event": "v2/billing/_meter_event.py",
    "v2.billing.meter_event_adjustment": "v2/billing/_meter_event_adjustment.py",
    "v2.billing.meter_event_session": "v2/billing/_meter_event_session.py",
    "v2.core.event": "v2/core/_event.py",
    "v2.core.event_destination": "v2/core/_event_destination.py",
}
EVENTS = {
    "v1.billing.meter.error_report_triggered": ("events/_v1_billing_meter_error_report_triggered_event.py", "V1BillingMeterErrorReportTriggeredEvent"),
    "v1.billing.meter.no_meter_found": ("events/_v1_billing_meter_no_meter_found_event.py", "V1BillingMeterNoMeterFoundEvent"),
}
SERVICES = [
    "billing/_meter_service.py", "billing/_meter_event_service.py", "billing/_meter_event_adjustment_service.py",
    "billing/_meter_event_summary_service.py", "billing/_alert_service.py", "billing/_credit_grant_service.py",
    "billing/_credit_balance_summary_service.py", "billing/_credit_balance_transaction_service.py",
    "_customer_service.py", "_customer_balance_transaction_service.py", "_customer_cash_balance_service.py",
    "_customer_cash_balance_transaction_service.py", "_customer_funding_instructions_service.py",
    "_customer_payment_method_service.py", "_customer_payment_source_service.py", "_customer_tax_id_service.py",
    "_product_service.py", "_product_feature_service.py", "_price_service.py", "_subscription_service.py",
    "_subscription_item_service.py", "_invoice_service.py", "_invoice_line_item_service.py",
    "_invoice_item_service.py",
    "test_helpers/_test_clock_service.py", "_event_service.py", "_webhook_endpoint_service.py",
    "v2/billing/_meter_event_service.py", "v2/billing/_meter_event_adjustment_service.py",
    "v2/billing/_meter_event_session_service.py", "v2/billing/_meter_event_stream_service.py",
    "v2/core/_event_service.py", "v2/core/_event_destination_service.py",
]
INVOICE_PATHS = {"/v1/invoices", "/v1/invoices/create_preview", "/v1/invoices/{invoice}",
                 "/v1/invoices/{invoice}/lines", "/v1/invoices/{invoice}/finalize",
                 "/v1/invoices/{invoice}/pay", "/v1/invoices/{invoice}/void"}
# limits that the SDK types do not carry; read in the published description of 2026-09-30.endive
MAXLEN = {("MeterCreateParams", "display_name"): 250, ("MeterCreateParams", "event_name"): 100,
          ("MeterUpdateParams", "display_name"): 250,
          ("MeterCreateParamsCustomerMapping", "event_payload_key"): 100,
          ("MeterCreateParamsValueSettings", "event_payload_key"): 100,
          ("MeterEventCreateParams", "event_name"): 100, ("MeterEventCreateParams", "identifier"): 100,
          ("MeterEventAdjustmentCreateParams", "event_name"): 100,
          ("MeterEventAdjustmentCreateParamsCancel", "identifier"): 100}

CLASS2OBJ = {}      # SDK class name -> object name, kept objects only
ALLOBJ = {}         # every SDK resource class name -> object name


def tree(rel):
    return ast.parse((ROOT / rel).read_text())


def object_name(cls):
    for n in cls.body:
        if isinstance(n, ast.AnnAssign) and getattr(n.target, "id", "") == "OBJECT_NAME":
            return n.value.value if isinstance(n.value, ast.Constant) else None
    return None


for f in ROOT.rglob("*.py"):
    if "params" in f.parts or f.name.endswith("_service.py"):
        continue
    src = f.read_text()
    if "OBJECT_NAME" not in src:
        continue
    for c in ast.parse(src).body:
        if isinstance(c, ast.ClassDef) and (o := object_name(c)):
            rel = f.relative_to(ROOT).as_posix()
            if KEEP.get(o) == rel:
                CLASS2OBJ[c.name if not o.startswith("v2.") else "v2:" + c.name] = o
            elif not rel.startswith("v2/"):
                ALLOBJ.setdefault(c.name, o)


def nullable(s):
    if isinstance(s.get("type"), str) and "enum" not in s:
        return {**s, "type": [s["type"], "null"]}
    if isinstance(s.get("type"), list):
        return {**s, "type": s["type"] + (["null"] if "null" not in s["type"] else [])}
    if "anyOf" in s:
        return {**s, "anyOf": s["anyOf"] + [{"type": "null"}]}
    return {"anyOf": [s, {"type": "null"}]}


def cut(name, expandable):
    obj = ALLOBJ.get(name, name)
    if expandable:
        return {"type": "string", "maxLength": 5000, "x-cut": obj}
    return {"type": ["object", "string"], "x-cut": obj}


class Ctx:
    """Resolves names: nested classes of the resource, TypedDicts of one params module, kept resources."""

    def __init__(self, nested=None, v2=False):
        self.nested, self.v2, self.stack = nested or {}, v2, []

    def typ(self, n, expandable=False):
        if isinstance(n, ast.Constant):
            if n.value is None:
                return {"type": "null"}
            if isinstance(n.value, str):
                return self.typ(ast.parse(n.value, mode="eval").body, expandable)
        if isinstance(n, ast.BinOp):
            return self.union(self.flat(n))
        if isinstance(n, ast.Attribute):
            return self.typ(ast.Name(id=n.attr), expandable)
        if isinstance(n, ast.Name):
            b = {"str": {"type": "string"}, "int": {"type": "integer"}, "float": {"type": "number"},
                 "bool": {"type": "boolean"}, "Any": {}, "object": {}, "Decimal": {"type": "string", "format": "decimal"},
                 "None": {"type": "null"}, "StripeObject": {"type": "object"}, "UntypedStripeObject": {"type": "object"}}.get(n.id)
            if b is not None:
                return dict(b)
            if n.id in self.nested and not (n.id in self.stack and n.id in CLASS2OBJ):
                return self.cls(n.id)
            key = ("v2:" + n.id) if self.v2 and ("v2:" + n.id) in CLASS2OBJ else n.id
            if key in CLASS2OBJ:
                r = {"$ref": "#/components/schemas/" + CLASS2OBJ[key]}
                return {"anyOf": [{"type": "string", "maxLength": 5000}, r]} if expandable else r
            return cut(n.id, expandable)
        if isinstance(n, ast.Subscript):
            head = n.value.attr if isinstance(n.value, ast.Attribute) else n.value.id
            args = list(n.slice.elts) if isinstance(n.slice, ast.Tuple) else [n.slice]
            if head == "Optional":
                return nullable(self.typ(args[0], expandable))
            if head == "NotRequired" or head == "ClassVar":
                return self.typ(args[0], expandable)
            if head == "ExpandableField":
                return self.typ(args[0], True)
            if head == "Union":
                return self.union(args, expandable)
            if head == "Literal":
                vals = [a.value for a in args]
                t = {str: "string", bool: "boolean", int: "integer"}[type(vals[0])]
                return {"type": t, "enum": vals}
            if head in ("List", "Sequence", "Iterable"):
                return {"type": "array", "items": self.typ(args[0], expandable)}
            if head in ("Dict", "Mapping"):
                return {"type": "object", "additionalProperties": self.typ(args[1])}
            if head == "UntypedStripeObject":
                return {"type": "object", "additionalProperties": self.typ(args[0])}
            if head == "ListObject" and self.v2:
                return listof_v2(self.typ(args[0]))
            if head in ("ListObject", "SearchResultObject"):
                return listof(self.typ(args[0]))
        raise ValueError(ast.dump(n))

    def flat(self, n):
        if isinstance(n, ast.BinOp):
            return self.flat(n.left) + self.flat(n.right)
        return [n]

    def union(self, parts, expandable=False):
        out = []
        for p in parts:
            s = self.typ(p, expandable)
            out.extend(s["anyOf"] if set(s) == {"anyOf"} else [s])
        plain = [s for s in out if s == {"type": "string"}]
        enums = [s for s in out if s.get("type") == "string" and "enum" in s]
        if enums and plain:                       # Literal[...] | str  = an enum that may grow
            keep = [s for s in out if s not in plain and s not in enums]
            vals = sorted({v for e in enums for v in e["enum"]})
            if vals == [""]:                      # Literal[''] | str = a string that may be emptied
                out = keep + [{"type": "string"}]
            else:
                out = keep + [{"type": "string", "enum": vals, "x-open-enum": True}]
        seen, uniq = set(), []
        for s in out:
            k = json.dumps(s, sort_keys=True)
            if k not in seen:
                seen.add(k)
                uniq.append(s)
        nul = {"type": "null"} in uniq
        uniq = [s for s in uniq if s != {"type": "null"}]
        r = uniq[0] if len(uniq) == 1 else {"anyOf": uniq}
        return nullable(r) if nul else r

    def cls(self, name, params=False):
        if name in self.stack:
            return {"type": "object", "x-cut": name}
        self.stack.append(name)
        node = self.nested[name]
        inner = {c.name: c for c in node.body if isinstance(c, ast.ClassDef)}
        saved, self.nested = self.nested, {**self.nested, **inner}
        props, req = {}, []
        # functional TypedDict: name is kept as an ast.Dict
        body = node.body
        for a in body:
            if not isinstance(a, ast.AnnAssign) or a.target.id in ("OBJECT_NAME", "LOOKUP_TYPE") or a.target.id.startswith("_"):
                continue
            wire = "from" if a.target.id == "from_" else a.target.id
            s = self.typ(a.annotation)
            if (name, wire) in MAXLEN:
                s = {**s, "maxLength": MAXLEN[name, wire]}
            props[wire] = s
            text = ast.unparse(a.annotation)
            if not (text.startswith("Optional[") or text.startswith("NotRequired[")):
                req.append(wire)
        self.nested = saved
        self.stack.pop()
        r = {"type": "object", "properties": props}
        if req:
            r["required"] = sorted(req)
        return r


def listof(item):
    return {"type": "object", "required": ["data", "has_more", "object", "url"],
            "properties": {"object": {"type": "string", "enum": ["list"]}, "data": {"type": "array", "items": item},
                           "has_more": {"type": "boolean"}, "url": {"type": "string", "maxLength": 5000}}}


def listof_v2(item):
    url = {"type": ["string", "null"]}
    return {"type": "object", "required": ["data", "next_page_url", "previous_page_url"], "properties": {
        "data": {"type": "array", "items": item}, "next_page_url": url, "previous_page_url": url}}


def search(item):
    r = listof(item)
    r["properties"]["object"] = {"type": "string", "enum": ["search_result"]}
    r["properties"]["next_page"] = {"type": ["string", "null"]}
    r["properties"]["total_count"] = {"type": "integer"}
    return r


def resource(obj, rel):
    for c in tree(rel).body:
        if isinstance(c, ast.ClassDef) and object_name(c) == obj:
            ctx = Ctx({c.name: c}, v2=obj.startswith("v2."))
            s = ctx.cls(c.name)
            s["title"] = c.name
            s["x-resourceId"] = obj
            s["properties"].pop("deleted", None)
            return s
    raise KeyError(obj)


PARAMS = {}
for f in (ROOT / "params").rglob("*.py"):
    rel = f.relative_to(ROOT).as_posix()
    PARAMS[rel] = f


def params_schema(modpath, name):
    t = ast.parse((ROOT / (modpath.replace(".", "/") + ".py")).read_text())
    nested = {}
    for c in t.body:
        if isinstance(c, ast.ClassDef):
            nested[c.name] = c
        elif isinstance(c, ast.Assign) and isinstance(c.value, ast.Call) and getattr(c.value.func, "id", "") == "TypedDict":
            d = c.value.args[1]
            fake = ast.ClassDef(name=c.targets[0].id, bases=[], keywords=[], decorator_list=[], body=[
                ast.AnnAssign(target=ast.Name(id=k.value), annotation=v, value=None, simple=1) for k, v in zip(d.keys, d.values)])
            nested[fake.name] = fake
    # class X(_XBase): pull the fields of the functional base in
    for c in list(nested.values()):
        for b in getattr(c, "bases", []):
            bid = getattr(b, "id", "")
            if bid in nested and bid != c.name:
                c.body = list(nested[bid].body) + list(c.body)
    return Ctx(nested).cls(name)


def build():
    ver = re.search(r'CURRENT = "([^"]+)"', (ROOT / "_api_version.py").read_text()).group(1)
    sdk = re.search(r'"([^"]+)"', (ROOT / "_version.py").read_text()).group(1)
    doc = {"openapi": "3.1.0", "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
           "info": {"title": "Stripe API (reduced)", "version": ver, "x-made-from": "stripe-python " + sdk},
           "servers": [{"url": "https://api.stripe.com/"}], "security": [{"bearerAuth": []}], "paths": {},
           "components": {"securitySchemes": {"bearerAuth": {"type": "http", "scheme": "bearer"}}, "schemas": {}}}
    S = doc["components"]["schemas"]
    for o, rel in KEEP.items():
        S[o] = resource(o, rel)
    S["event"]["properties"]["data"] = {"type": "object", "required": ["object"], "properties": {
        "object": {"type": "object"}, "previous_attributes": {"type": ["object", "null"]}}}
    S["event"]["properties"]["type"] = {"type": "string", "maxLength": 5000}
    for k in ("customer", "product", "price", "plan", "subscription_item", "invoice", "invoiceitem", "test_helpers.test_clock", "webhook_endpoint"):
        S["deleted_" + k] = {"type": "object", "required": ["deleted", "id", "object"], "properties": {
            "deleted": {"type": "boolean", "enum": [True]}, "id": {"type": "string"}, "object": {"type": "string", "enum": [k]}}}
    err = Ctx({c.name: c for c in tree("_error_object.py").body if isinstance(c, ast.ClassDef)}).cls("ErrorObject")
    err["properties"].pop("user_message", None)
    err["properties"]["type"] = {"type": "string", "enum": ["api_error", "card_error", "idempotency_error", "invalid_request_error"], "x-open-enum": True}
    S["api_errors"] = err
    S["error"] = {"type": "object", "required": ["error"], "properties": {"error": {"$ref": "#/components/schemas/api_errors"}}}
    S["v2.error"] = {"type": "object", "required": ["error"], "properties": {"error": {"type": "object", "required": ["message"],
        "properties": {"code": {"type": "string"}, "message": {"type": "string"}, "type": {"type": "string"}, "doc_url": {"type": "string"}}}}}
    for o, (rel, cname) in EVENTS.items():
        c = next(x for x in tree(rel).body if isinstance(x, ast.ClassDef) and x.name == cname)
        d = next(x for x in c.body if isinstance(x, ast.ClassDef) and x.name.endswith("Data"))
        data = Ctx({d.name: d}).cls(d.name)
        S[o] = {"type": "object", "required": ["created", "data", "id", "livemode", "object", "type"], "properties": {
            "id": {"type": "string"}, "object": {"type": "string", "enum": ["v2.core.event"]}, "type": {"type": "string", "enum": [o]},
            "created": {"type": "string", "format": "date-time"}, "livemode": {"type": "boolean"}, "context": {"type": ["string", "null"]},
            "reason": {"type": ["object", "null"]},
            "related_object": {"type": ["object", "null"], "properties": {"id": {"type": "string"}, "type": {"type": "string"}, "url": {"type": "string"}}},
            "data": data}}
    for rel in SERVICES:
        t = tree(rel)
        imports = {}
        for n in ast.walk(t):
            if isinstance(n, ast.ImportFrom) and n.module and n.module.startswith("stripe."):
                for a in n.names:
                    imports[a.name] = n.module[len("stripe."):]
        for c in t.body:
            if not isinstance(c, ast.ClassDef) or not c.name.endswith("Service"):
                continue
            for m in c.body:
                if not isinstance(m, ast.FunctionDef) or m.name.startswith("__"):
                    continue
                call = next((x for x in ast.walk(m) if isinstance(x, ast.Call) and getattr(x.func, "attr", "") == "_request"), None)
                if call is None:
                    continue
                verb = call.args[0].value
                u = call.args[1]
                path = u.value if isinstance(u, ast.Constant) else u.func.value.value
                v2 = path.startswith("/v2/")
                base = next((k.value.value for k in call.keywords if k.arg == "base_address"), "api")
                if rel == "_invoice_service.py" and path not in INVOICE_PATHS:
                    continue
                if rel == "_invoice_line_item_service.py" and path not in INVOICE_PATHS:
                    continue
                ann = {a.arg: a.annotation for a in m.args.args + m.args.posonlyargs}
                op = {"operationId": ("v2." if v2 else "") + c.name.replace("Service", "") + "." + m.name, "parameters": [
                    {"name": p, "in": "path", "required": True, "schema": {"type": "string", "maxLength": 5000}} for p in re.findall(r"{(\w+)}", path)]}
                if base != "api":
                    op["x-base-address"] = base
                if "params" in ann and ann["params"] is not None:
                    pname = re.search(r"[A-Za-z]\w*Params", ast.unparse(ann["params"])).group(0)
                    ps = params_schema(imports[pname], pname)
                    ps["additionalProperties"] = False
                    if verb in ("get", "delete"):
                        for k, s in ps["properties"].items():
                            op["parameters"].append({"name": k, "in": "query", "required": k in ps.get("required", []), "schema": s,
                                                     "style": "deepObject" if s.get("type") in ("array", "object") else "form", "explode": True})
                    else:
                        mt = "application/json" if v2 else "application/x-www-form-urlencoded"
                        op["requestBody"] = {"required": bool(ps.get("required")), "content": {mt: {"schema": ps}}}
                ret = m.returns
                text = ast.unparse(ret) if ret is not None else "None"
                text = text.strip("'\"")
                rn = ast.parse(text, mode="eval").body
                if text == "None":
                    sch = None
                elif isinstance(rn, ast.Subscript) and rn.value.id == "SearchResultObject":
                    sch = search(Ctx(v2=v2).typ(rn.slice))
                else:
                    sch = Ctx(v2=v2).typ(rn)
                if verb == "delete" and sch and "$ref" in sch:
                    d = "deleted_" + sch["$ref"].rsplit("/", 1)[1]
                    if d in S:
                        sch = {"$ref": "#/components/schemas/" + d}
                op["responses"] = {"200": {"description": "ok"}, "default": {"description": "error", "content": {"application/json": {
                    "schema": {"$ref": "#/components/schemas/" + ("v2.error" if v2 else "error")}}}}}
                if sch is not None:
                    op["responses"]["200"]["content"] = {"application/json": {"schema": sch}}
                doc["paths"].setdefault(path, {})[verb] = op
    doc["paths"] = dict(sorted(doc["paths"].items()))
    doc["components"]["schemas"] = dict(sorted(S.items()))
    return doc


if __name__ == "__main__":
    out = pathlib.Path(sys.argv[1])
    out.write_text(json.dumps(build(), separators=(",", ":")) + "\n")
    print(out.name, out.stat().st_size)
