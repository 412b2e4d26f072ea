"""The HTTP API of API Gateway, payload 2.0."""

import json

from aws_cdk import aws_apigatewayv2 as apigateway
from aws_cdk import aws_certificatemanager as acm
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk.aws_apigatewayv2_integrations import HttpLambdaIntegration
from constructs import Construct

from infra.cdk.construct_id import construct_id
from infra.cdk.log_group import MeterLogs
from infra.deployments import Deployment, Domain
from infra.functions import Http

_LOGGED = {
    "requestId": "$context.requestId",
    "time": "$context.requestTime",
    "ip": "$context.identity.sourceIp",
    "route": "$context.routeKey",
    "path": "$context.path",
    "status": "$context.status",
    "bytes": "$context.responseLength",
    "ms": "$context.responseLatency",
    "integrationMs": "$context.integrationLatency",
    "error": "$context.error.message",
    "integrationError": "$context.integrationErrorMessage",
}
"""Of every request one line; never a header, for one of them is the key."""


class MeterApi(Construct):
    """The one door for HTTPS.

    Who calls is found out behind it: an authorizer of API Gateway would double the calls or keep
    its answers, and with them a key that was revoked.
    """

    def __init__(self, scope: Construct, deployment: Deployment) -> None:
        super().__init__(scope, "Api")
        self.api = apigateway.HttpApi(
            self,
            "Api",
            api_name=f"{deployment.prefix}api",
            description=f"StripeMeter {deployment.name}",
            create_default_stage=False,
        )
        access = MeterLogs(self, f"/aws/vendedlogs/apis/{deployment.prefix}api", deployment)
        self._stage = apigateway.HttpStage(
            self,
            "Stage",
            http_api=self.api,
            stage_name="$default",
            auto_deploy=True,
            throttle=apigateway.ThrottleSettings(
                rate_limit=deployment.requests_per_s, burst_limit=deployment.requests_burst
            ),
        )
        _log_requests(self._stage, access)
        self.url: str = self.api.api_endpoint
        """Where customers call, without a slash at the end."""
        self.domain_target: str | None = None
        """What the DNS name of the custom domain must point to."""
        if deployment.domain:
            self._add_domain(deployment.domain)

    def add_routes(self, http: Http, function: lambda_.IFunction) -> None:
        """Send what a function answers to it."""
        for route in http.routes:
            apigateway.HttpRoute(
                self,
                construct_id(route),
                http_api=self.api,
                route_key=_route_key(route),
                integration=HttpLambdaIntegration("Integration", function),
            )

    def _add_domain(self, domain: Domain) -> None:
        certificate = acm.Certificate.from_certificate_arn(
            self, "Certificate", domain.certificate_arn
        )
        made = apigateway.DomainName(
            self, "Domain", domain_name=domain.name, certificate=certificate
        )
        apigateway.ApiMapping(
            self, "DomainMapping", api=self.api, domain_name=made, stage=self._stage
        )
        self.url = f"https://{domain.name}"
        self.domain_target = made.regional_domain_name


def _log_requests(stage: apigateway.HttpStage, access: logs.ILogGroup) -> None:
    made = stage.node.default_child
    assert isinstance(made, apigateway.CfnStage)
    made.access_log_settings = made.AccessLogSettingsProperty(
        destination_arn=access.log_group_arn, format=json.dumps(_LOGGED)
    )


def _route_key(route: str) -> apigateway.HttpRouteKey:
    if route == "$default":
        return apigateway.HttpRouteKey.DEFAULT
    method, path = route.split(" ")
    return apigateway.HttpRouteKey.with_(path, apigateway.HttpMethod[method])
