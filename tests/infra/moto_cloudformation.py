"""moto's server with CloudFormation, in a process of its own.

moto's CloudFormation imports all that it could ever make, and of that the old API Gateway checks
descriptions of APIs with `openapi_spec_validator`. Our templates have none, so its place is taken
by a module that has the names and nothing behind them.
"""

import sys
from types import ModuleType

from local import moto_server


def _stand_in(name: str, **members: object) -> None:
    module = ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module


if __name__ == "__main__":
    _stand_in("openapi_spec_validator", validate_spec=None)
    _stand_in("openapi_spec_validator.validation")
    _stand_in(
        "openapi_spec_validator.validation.exceptions", OpenAPIValidationError=type("Error", (), {})
    )
    moto_server.main()
