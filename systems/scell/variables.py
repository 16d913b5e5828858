"""Names of every variable of the API's `.env` that berth writes, grouped as the application documents them.

``environment.py`` gives them their values; a stack file adds others under ``backend.extra``, none of these.
"""

from __future__ import annotations

from collections.abc import Mapping

GROUPS: Mapping[str, tuple[str, ...]] = {
    "application": (
        "APP_NAME",
        "APP_ENV",
        "APP_KEY",
        "APP_DEBUG",
        "APP_TIMEZONE",
        "APP_URL",
        "APP_LOCALE",
        "LOG_CHANNEL",
        "LOG_LEVEL",
    ),
    "database": (
        "DB_CONNECTION",
        "DB_HOST",
        "DB_PORT",
        "DB_DATABASE",
        "DB_USERNAME",
        "DB_PASSWORD",
        "DB_HOST_SANDBOX",
        "DB_DATABASE_SANDBOX",
        "DB_USERNAME_SANDBOX",
        "DB_PASSWORD_SANDBOX",
        "DB_SSLMODE",
        "DB_SSLROOTCERT",
    ),
    "cache and queue": (
        "CACHE_STORE",
        "CACHE_PREFIX",
        "QUEUE_CONNECTION",
        "SESSION_DRIVER",
        "REDIS_HOST",
        "REDIS_PORT",
        "REDIS_USERNAME",
        "REDIS_PASSWORD",
        "REDIS_SCHEME",
        "REDIS_CA",
        "HORIZON_PREFIX",
    ),
    "mail": (
        "MAIL_MAILER",
        "MAIL_HOST",
        "MAIL_PORT",
        "MAIL_USERNAME",
        "MAIL_PASSWORD",
        "MAIL_ENCRYPTION",
        "MAIL_FROM_ADDRESS",
    ),
    "google": ("GOOGLE_CLIENT_ID", "GOOGLE_CLIENT_SECRET"),
    "openapi": ("OPENAPI_BASE_URL", "OPENAPI_SANDBOX_URL", "OPENAPI_BEARER_TOKEN"),
    "superpdp": (
        "SUPERPDP_API_URL",
        "SUPERPDP_API_KEY",
        "SUPERPDP_WEBHOOK_SECRET",
        "SUPERPDP_SANDBOX",
    ),
    "bulkgate": ("BULKGATE_APPLICATION_ID", "BULKGATE_APPLICATION_TOKEN"),
    "insee": ("INSEE_API_URL", "INSEE_CLIENT_ID", "INSEE_CERT_PATH", "INSEE_KEY_PATH"),
    "storage": (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_DEFAULT_REGION",
        "AWS_BUCKET",
        "AWS_ENDPOINT",
        "AWS_USE_PATH_STYLE_ENDPOINT",
    ),
    "mcp": ("MCP_ENABLED", "MCP_SESSION_TTL", "MCP_SESSION_DRIVER", "MCP_RATE_LIMIT"),
    "fiscal": (
        "FISCAL_COMPLIANCE_ENABLED",
        "FISCAL_EDITOR_NAME",
        "FISCAL_EDITOR_SIRET",
        "FISCAL_LICENSE_NUMBER",
        "FISCAL_ANCHOR_PROVIDER",
        "FISCAL_TSA_URL",
        "FISCAL_RETENTION_YEARS",
    ),
    "pdf": ("SNAPPY_PDF_BINARY", "SNAPPY_IMAGE_BINARY"),
}

VARIABLES = frozenset(name for names in GROUPS.values() for name in names)
