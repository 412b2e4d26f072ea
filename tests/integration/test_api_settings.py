"""What a tenant decides for all of its usage."""

from decimal import Decimal

import pytest

from metering.names import TenantId
from metering.tenant_settings import AfterClose, TenantSettings
from metering.wiring import Wiring
from tests.api_client import api_of

ACME = TenantId("acme")
DEFAULTS = {
    "tenantId": "acme",
    "afterClose": "carry_forward",
    "fourEyes": False,
    "adjustmentMax": Decimal(1_000_000),
    "holdsInvoices": True,
}


def test_a_tenant_that_decided_nothing_has_the_defaults(wiring: Wiring) -> None:
    assert api_of(wiring, "acme").get("/v1/settings").body == DEFAULTS
    assert wiring.settings.tenant(ACME) == TenantSettings(ACME)


def test_decisions_are_changed_one_by_one_and_are_the_tenants_own(wiring: Wiring) -> None:
    api = api_of(wiring, "acme")
    api.put("/v1/settings", {"fourEyes": True, "holdsInvoices": False})

    body = api.put("/v1/settings", '{"afterClose": "unbilled", "adjustmentMax": 12.5}').body

    decided = {"fourEyes": True, "holdsInvoices": False, "afterClose": "unbilled"}
    assert body == DEFAULTS | decided | {"adjustmentMax": Decimal("12.5")}
    assert wiring.settings.tenant(ACME) == TenantSettings(
        ACME, AfterClose.UNBILLED, four_eyes=True, adjustment_max=Decimal("12.5"),
        holds_invoices=False,
    )  # fmt: skip
    assert api_of(wiring, "other").get("/v1/settings").body == DEFAULTS | {"tenantId": "other"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"afterClose": "forget"}, "afterClose"),
        ({"fourEyes": "yes"}, "fourEyes"),
        ({"holdsInvoices": 1}, "holdsInvoices"),
        ({"adjustmentMax": 0}, "adjustmentMax"),
        ({"adjustmentMax": -5}, "adjustmentMax"),
        ({"adjustmentMax": 10**15}, "adjustmentMax"),
    ],
)
def test_a_wrong_decision_is_refused(wiring: Wiring, body: object, field: str) -> None:
    api = api_of(wiring, "acme")

    answer = api.put("/v1/settings", body)

    assert (answer.status, field in answer.body["message"]) == (400, True), answer.text
    assert api.get("/v1/settings").body == DEFAULTS
