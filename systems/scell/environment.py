"""The API's `.env`: every variable, from the stack file, from the services, or from a secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pulumi import Input, Output

from components.cloud import Bucket, Email, Postgres, Redis
from systems.scell.config import BackendConfig, ScellConfig

CERTIFICATE, CERTIFICATE_KEY = "certs/insee-client.pem", "certs/insee-client.key"
"""Below the application's storage/, where the application looks for them."""

WKHTMLTOPDF, WKHTMLTOIMAGE = "/usr/bin/wkhtmltopdf", "/usr/bin/wkhtmltoimage"
"""Where Debian puts them."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """What the API stands on. ``*_ca``: where the host keeps the certificates of the managed services."""

    postgres: Postgres
    postgres_ca: str
    redis: Redis
    redis_ca: str
    bucket: Bucket
    email: Email
    app_key: Output[str]


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Plain and secret variables, apart; ``files``: path below storage/ to content, secret."""

    plain: Mapping[str, Input[str]]
    secret: Mapping[str, Input[str]]
    files: Mapping[str, Input[str]]


def environment(
    config: ScellConfig, backend: BackendConfig, services: Services, secrets: Mapping[str, Output[str]]
) -> Environment:
    """Everything the application is configured with. KeyError for a secret that was not given."""
    if config.postgres is None or config.mail is None:
        raise ValueError("a backend without postgres and mail: the config refuses it")
    postgres, databases = services.postgres, config.postgres.databases
    main, trial = postgres.databases[databases.production], postgres.databases[databases.sandbox]
    plain: dict[str, Input[str]] = {
        **_application(backend),
        "DB_CONNECTION": "pgsql",
        "DB_HOST": postgres.host,
        "DB_PORT": _text(postgres.port),
        "DB_DATABASE": databases.production,
        "DB_USERNAME": main.user,
        "DB_HOST_SANDBOX": postgres.host,
        "DB_DATABASE_SANDBOX": databases.sandbox,
        "DB_USERNAME_SANDBOX": trial.user,
        # The instance signs its own certificate, so that certificate is what it is known by.
        "DB_SSLMODE": "verify-ca",
        "DB_SSLROOTCERT": services.postgres_ca,
        "CACHE_STORE": "redis",
        "CACHE_PREFIX": backend.cache.prefix,
        "QUEUE_CONNECTION": "redis",
        "SESSION_DRIVER": "redis",
        "REDIS_HOST": services.redis.host,
        "REDIS_PORT": _text(services.redis.port),
        "REDIS_USERNAME": services.redis.user,
        "REDIS_SCHEME": "tls" if services.redis.tls else "tcp",
        "REDIS_CA": services.redis_ca,
        "HORIZON_PREFIX": backend.cache.horizon_prefix,
        "MAIL_MAILER": "smtp",
        "MAIL_HOST": services.email.host,
        "MAIL_PORT": _text(services.email.port),
        "MAIL_USERNAME": services.email.user,
        "MAIL_ENCRYPTION": "tls",
        "MAIL_FROM_ADDRESS": config.mail.from_,
        "AWS_ACCESS_KEY_ID": services.bucket.access_key,
        "AWS_DEFAULT_REGION": services.bucket.region,
        "AWS_BUCKET": services.bucket.name,
        "AWS_ENDPOINT": services.bucket.endpoint,
        "AWS_USE_PATH_STYLE_ENDPOINT": "true",
        "MCP_ENABLED": _flag(backend.mcp.enabled),
        "MCP_SESSION_TTL": str(backend.mcp.session_ttl),
        "MCP_SESSION_DRIVER": "redis",
        "MCP_RATE_LIMIT": str(backend.mcp.rate_limit),
        **_fiscal(backend),
        "SNAPPY_PDF_BINARY": WKHTMLTOPDF,
        "SNAPPY_IMAGE_BINARY": WKHTMLTOIMAGE,
    }
    secret: dict[str, Input[str]] = {
        "APP_KEY": services.app_key,
        "DB_PASSWORD": main.password,
        "DB_PASSWORD_SANDBOX": trial.password,
        "REDIS_PASSWORD": services.redis.password,
        "MAIL_PASSWORD": services.email.password,
        "AWS_SECRET_ACCESS_KEY": services.bucket.secret_key,
    }
    files: dict[str, Input[str]] = {}
    if backend.google.enabled:
        plain["GOOGLE_CLIENT_ID"] = backend.google.client_id or ""
        secret["GOOGLE_CLIENT_SECRET"] = secrets["google_client_secret"]
    if backend.openapi.enabled:
        plain["OPENAPI_BASE_URL"] = backend.openapi.base_url
        plain["OPENAPI_SANDBOX_URL"] = backend.openapi.sandbox_url
        secret["OPENAPI_BEARER_TOKEN"] = secrets["openapi_bearer_token"]
    if backend.superpdp.enabled:
        plain["SUPERPDP_API_URL"] = backend.superpdp.api_url
        plain["SUPERPDP_SANDBOX"] = _flag(backend.superpdp.sandbox)
        secret["SUPERPDP_API_KEY"] = secrets["superpdp_api_key"]
        secret["SUPERPDP_WEBHOOK_SECRET"] = secrets["superpdp_webhook_secret"]
    if backend.bulkgate.enabled:
        secret["BULKGATE_APPLICATION_ID"] = secrets["bulkgate_application_id"]
        secret["BULKGATE_APPLICATION_TOKEN"] = secrets["bulkgate_application_token"]
    if backend.insee.enabled:
        plain["INSEE_API_URL"] = backend.insee.api_url
        plain["INSEE_CERT_PATH"] = f"storage/{CERTIFICATE}"
        plain["INSEE_KEY_PATH"] = f"storage/{CERTIFICATE_KEY}"
        secret["INSEE_CLIENT_ID"] = secrets["insee_client_id"]
        files[CERTIFICATE] = secrets["insee_certificate"].apply(_ended)
        files[CERTIFICATE_KEY] = secrets["insee_key"].apply(_ended)
    return Environment(plain={**plain, **backend.extra}, secret=secret, files=files)


def _application(backend: BackendConfig) -> Mapping[str, Input[str]]:
    return {
        "APP_NAME": backend.app.name,
        "APP_ENV": backend.app.environment,
        "APP_DEBUG": _flag(backend.app.debug),
        "APP_TIMEZONE": backend.app.timezone,
        "APP_URL": f"https://{backend.name}",
        "APP_LOCALE": backend.app.locale,
        "LOG_CHANNEL": "stack",
        "LOG_LEVEL": backend.app.log_level,
    }


def _fiscal(backend: BackendConfig) -> Mapping[str, Input[str]]:
    fiscal = backend.fiscal
    named = {
        "FISCAL_EDITOR_NAME": fiscal.editor_name,
        "FISCAL_EDITOR_SIRET": fiscal.editor_siret,
        "FISCAL_LICENSE_NUMBER": fiscal.license_number,
    }
    return {
        "FISCAL_COMPLIANCE_ENABLED": _flag(fiscal.enabled),
        **{name: value for name, value in named.items() if value is not None},
        "FISCAL_ANCHOR_PROVIDER": fiscal.anchor_provider,
        "FISCAL_TSA_URL": fiscal.tsa_url,
        "FISCAL_RETENTION_YEARS": str(fiscal.retention_years),
    }


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _text(number: Output[int]) -> Output[str]:
    """A port as text; what came over the wire may be a float."""
    return number.apply(lambda value: str(int(value)))


def _ended(text: str) -> str:
    """PEM with the line end that some readers ask for."""
    return text.rstrip() + "\n"
