"""AWS's list prices, all in one table: us-east-1, arm64, standard table class, no free tier.

Dollars are before taxes and discounts. `source` says how sure we are: `read` was read in AWS's
pages, `known` is general knowledge that was not looked up again; look it up before you sign.
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

AS_OF = "2026-11-20"
REGION = "us-east-1"


class Source(StrEnum):
    """How a price is known."""

    READ = "read"
    KNOWN = "known"


@dataclass(frozen=True, slots=True)
class Price:
    """What AWS charges for something."""

    usd: Decimal
    per: Decimal
    """Of so many units."""
    unit: str
    source: Source
    remark: str = ""

    @property
    def each(self) -> Decimal:
        """Dollars for one unit."""
        return self.usd / self.per


def _price(usd: str, per: int, unit: str, source: Source = Source.READ, remark: str = "") -> Price:
    return Price(Decimal(usd), Decimal(per), unit, source, remark)


MILLION = 1_000_000

WRITE_UNIT = _price("0.625", MILLION, "write units on demand", remark="halved in November 2024")
READ_UNIT = _price("0.125", MILLION, "read units on demand")
PROVISIONED_WRITE = _price("0.00065", 1, "write units a second, for an hour", Source.KNOWN)
PROVISIONED_READ = _price("0.00013", 1, "read units a second, for an hour", Source.KNOWN)
TABLE_STORAGE = _price("0.25", 1, "GB in tables and indexes, for a month")
BACKUP = _price("0.20", 1, "GB of table with point-in-time recovery, for a month")
EXPORT = _price("0.10", 1, "GB exported to S3")
STREAM_READ = _price("0", 1, "records that a Lambda trigger reads of a stream")
LAMBDA_REQUEST = _price("0.20", MILLION, "invocations")
LAMBDA_GB_S = _price("13.3334", MILLION, "GB-seconds, arm64", remark="start-up time is billed too")
HTTP_API = _price(
    "1.00", MILLION, "requests of an HTTP API", remark="each 512 KB begun; first 300 M a month"
)
REST_API = _price("3.50", MILLION, "requests of a REST API", remark="first 333 M a month")
FUNCTION_URL = _price("0", 1, "requests of a function URL")
QUEUE_REQUEST = _price("0.40", MILLION, "requests of a standard queue", remark="each 64 KB begun")
LOG = _price("0.50", 1, "GB of logs taken in", remark="kept for $0.03 per GB and month more")
METRIC = _price("0.30", 1, "custom metrics, for a month", remark="first 10,000")
ALARM = _price("0.10", 1, "alarms on one metric, for a month")
DASHBOARD = _price("3.00", 1, "dashboards, for a month")
SECRET = _price("0.40", 1, "secrets, for a month")
KEY = _price("1.00", 1, "keys of KMS, for a month", Source.KNOWN, "the alarms' topics have one")
SECRET_READ = _price("0.05", 10_000, "reads of a secret", Source.KNOWN)
SCHEDULE = _price("1.00", MILLION, "invocations by EventBridge Scheduler", remark="14 M are free")
TRACE = _price("5.00", MILLION, "traces of X-Ray recorded", Source.KNOWN, "100,000 are free")
TRAFFIC_OUT = _price("0.09", 1, "GB out to the internet", Source.KNOWN, "100 GB are free")
OBJECT_PUT = _price("5.00", MILLION, "objects written to S3")
OBJECT_STORAGE = _price("0.023", 1, "GB in S3, for a month", Source.KNOWN)

PRICES: tuple[Price, ...] = (
    WRITE_UNIT,
    READ_UNIT,
    PROVISIONED_WRITE,
    PROVISIONED_READ,
    TABLE_STORAGE,
    BACKUP,
    EXPORT,
    STREAM_READ,
    LAMBDA_REQUEST,
    LAMBDA_GB_S,
    HTTP_API,
    REST_API,
    FUNCTION_URL,
    QUEUE_REQUEST,
    LOG,
    METRIC,
    ALARM,
    DASHBOARD,
    SECRET,
    KEY,
    SECRET_READ,
    SCHEDULE,
    TRACE,
    TRAFFIC_OUT,
    OBJECT_PUT,
    OBJECT_STORAGE,
)
