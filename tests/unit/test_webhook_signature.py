"""Only what Stripe signed, just now, with one of our secrets, passes; nothing else does."""

from datetime import timedelta

import pytest
from stripe import SignatureVerificationError, WebhookSignature

from metering.webhook import Reason, WebhookRefusedError, check_signature
from tests.builders import NOON
from tests.stripe_events import SECRET, a_snapshot, signed, text_of

BODY = text_of(a_snapshot())
SECOND = timedelta(seconds=1)


def reason_against(header: str, body: str = BODY, *secrets: str) -> Reason:
    with pytest.raises(WebhookRefusedError) as refused:
        check_signature(header, body.encode(), secrets or (SECRET,), NOON)
    return refused.value.reason


def test_what_the_sdk_signs_passes() -> None:
    check_signature(signed(BODY), BODY.encode(), [SECRET], NOON)


def test_a_body_with_letters_beyond_ascii_passes_as_its_bytes() -> None:
    body = text_of(a_snapshot(description="Größe, 数量"))

    check_signature(signed(body), body.encode(), [SECRET], NOON)


@pytest.mark.parametrize("secrets", [("whsec_new", "whsec_old"), ("whsec_old", "whsec_new")])
@pytest.mark.parametrize("signer", ["whsec_new", "whsec_old"])
def test_any_of_several_secrets_may_sign(secrets: tuple[str, ...], signer: str) -> None:
    check_signature(signed(BODY, signer), BODY.encode(), secrets, NOON)


def test_of_several_signatures_one_suffices() -> None:
    header = signed(BODY, "whsec_not_yet_known_here", SECRET)

    check_signature(header, BODY.encode(), [SECRET], NOON)


def test_another_secret_is_refused() -> None:
    assert reason_against(signed(BODY, "whsec_other")) is Reason.WRONG_SECRET


def test_a_body_changed_by_one_byte_is_refused() -> None:
    changed = BODY.replace("cus_ada", "cus_adb")

    assert len(changed) == len(BODY)
    assert reason_against(signed(BODY), changed) is Reason.WRONG_SECRET


def test_a_changed_timestamp_is_refused() -> None:
    header = signed(BODY, at=NOON - 400 * SECOND)
    fresh = header.replace(str(int(NOON.timestamp()) - 400), str(int(NOON.timestamp())))

    assert fresh != header
    assert reason_against(fresh) is Reason.WRONG_SECRET


@pytest.mark.parametrize("away", [-300, -299, 0, 299, 300])
def test_within_the_tolerance_either_way_it_passes(away: int) -> None:
    check_signature(signed(BODY, at=NOON + away * SECOND), BODY.encode(), [SECRET], NOON)


@pytest.mark.parametrize(
    ("away", "reason"), [(-301, Reason.TOO_OLD), (301, Reason.FROM_FUTURE)], ids=["old", "ahead"]
)
def test_beyond_the_tolerance_either_way_it_is_refused(away: int, reason: Reason) -> None:
    assert reason_against(signed(BODY, at=NOON + away * SECOND)) is reason


def test_whoever_does_not_know_the_secret_learns_nothing_of_our_clock() -> None:
    header = signed(BODY, "whsec_other", at=NOON - 301 * SECOND)

    assert reason_against(header) is Reason.WRONG_SECRET


def test_without_a_header_it_is_refused() -> None:
    assert reason_against("") is Reason.NO_SIGNATURE


@pytest.mark.parametrize(
    "header",
    [
        "nonsense",
        "t=,v1=00",
        "t=1795176000",
        "v1=00",
        "t=1795176000,v0=00",
        "t=1795176000.5,v1=00",
        "t=-1795176000,v1=00",
        "t=١٧٩٥١٧٦٠٠٠,v1=00",
        "t=999999999999,v1=00",
        "t=1795176000,t=1795176001,v1=00",
        "T=1795176000,V1=00",
    ],
)
def test_a_header_of_another_shape_is_refused(header: str) -> None:
    assert reason_against(header) is Reason.MALFORMED_SIGNATURE


@pytest.mark.parametrize("signature", ["", "zz", "é", "0" * 64])
def test_a_signature_that_is_none_is_refused(signature: str) -> None:
    assert reason_against(f"t={int(NOON.timestamp())},v1={signature}") is Reason.WRONG_SECRET


@pytest.mark.parametrize("signer", [SECRET, "whsec_other"])
@pytest.mark.parametrize("body", [BODY, "", "{}"])
def test_it_judges_secrets_as_the_sdk_does(signer: str, body: str) -> None:
    header = signed(body, signer)

    assert _passes_here(header, body) is _passes_the_sdk(header, body)


def _passes_here(header: str, body: str) -> bool:
    try:
        check_signature(header, body.encode(), [SECRET], NOON)
    except WebhookRefusedError:
        return False
    return True


def _passes_the_sdk(header: str, body: str) -> bool:
    """Whatever its age: the SDK asks the machine's clock for that."""
    try:
        WebhookSignature.verify_header(body, header, SECRET, tolerance=None)
    except SignatureVerificationError:
        return False
    return True
