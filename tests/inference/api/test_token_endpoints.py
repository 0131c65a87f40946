"""POST /api/v1/auth/login/ and /logout/, and what a token opens."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from rest_framework.test import APIClient

LOGIN, LOGOUT, RUNS = "/api/v1/auth/login/", "/api/v1/auth/logout/", "/api/v1/runs/"


@pytest.fixture
def alice(db: None, settings: Any) -> User:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    return User.objects.create_user("alice", password="correct horse")


def basic(password: str, name: str = "alice") -> dict[str, str]:
    return {"HTTP_AUTHORIZATION": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def test_a_token_opens_the_api_until_logout(anonymous: APIClient, alice: User) -> None:
    """Basic credentials give a token; after logout it opens nothing."""
    response = anonymous.post(LOGIN, **basic("correct horse"))
    assert response.status_code == 200
    token = {"HTTP_AUTHORIZATION": f"Token {response.json()['token']}"}
    assert anonymous.get(RUNS, **token).status_code == 200
    assert anonymous.post(LOGOUT, **token).status_code == 204
    assert anonymous.get(RUNS, **token).status_code == 401


def test_basic_credentials_open_nothing_else(anonymous: APIClient, alice: User) -> None:
    """Passwords travel to the login endpoint alone."""
    assert anonymous.get(RUNS, **basic("correct horse")).status_code == 401


@pytest.mark.parametrize(
    "header", ["Token x", "Token", "Token a b", "Token \xff\xfe", "Basic x", "Basic \xff", "Token " + "a" * 5000]
)
def test_nonsense_is_401(anonymous: APIClient, db: None, header: str) -> None:
    """Whatever the header holds."""
    response = anonymous.get(RUNS, HTTP_AUTHORIZATION=header)
    assert response.status_code == 401
    assert response.json()["error"]["code"]


@pytest.mark.parametrize("name", ["ali\0ce", "\0"])
def test_a_nul_in_a_name_is_401(anonymous: APIClient, alice: User, name: str) -> None:
    """PostgreSQL takes none, so it reaches no query."""
    assert anonymous.post(LOGIN, **basic("correct horse", name)).status_code == 401


def test_bad_tokens_are_throttled_and_good_ones_are_not(anonymous: APIClient, alice: User) -> None:
    """From the same address."""
    good = {"HTTP_AUTHORIZATION": f"Token {anonymous.post(LOGIN, **basic('correct horse')).json()['token']}"}
    statuses = [anonymous.get(RUNS, HTTP_AUTHORIZATION=f"Token {i:064}").status_code for i in range(30)]
    assert statuses[0] == 401
    assert statuses[-1] == 429
    response = anonymous.get(RUNS, HTTP_AUTHORIZATION="Token x", HTTP_X_FORWARDED_FOR="203.0.113.9")
    assert response.status_code == 429, "an address of the client's own invention opens a new account"
    assert int(response["Retry-After"]) > 0
    assert anonymous.get(RUNS, **good).status_code == 200


def test_guessing_passwords_locks_the_account(anonymous: APIClient, alice: User, settings: Any) -> None:
    """429 in the one shape, for the right password too."""
    settings.AXES_FAILURE_LIMIT = 3
    for _ in range(4):
        response = anonymous.post(LOGIN, **basic("wrong"))
    assert response.status_code == 429
    response = anonymous.post(LOGIN, **basic("correct horse"))
    assert response.status_code == 429
    assert response.json()["error"]["code"] == "throttled"
    assert int(response["Retry-After"]) > 0


def test_behind_a_proxy_who_guesses_passwords_locks_out_nobody_else(
    anonymous: APIClient, alice: User, settings: Any
) -> None:
    """An address counts as the proxy writes it, behind whatever the client claims."""
    settings.AXES_FAILURE_LIMIT = 3
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": 1}

    def log_in(password: str, address: str) -> int:
        forwarded = {"HTTP_X_FORWARDED_FOR": f"198.51.100.7, {address}", "REMOTE_ADDR": "10.0.0.1"}
        return anonymous.post(LOGIN, **basic(password), **forwarded).status_code

    assert [log_in("wrong", "203.0.113.9") for _ in range(4)][-1] == 429
    assert log_in("correct horse", "203.0.113.9") == 429
    assert log_in("correct horse", "198.51.100.7") == 200
    assert log_in("wrong", "unknown:80") == 401
    assert AccessAttempt.objects.get(ip_address="10.0.0.1").failures_since_start == 1


def test_logins_are_throttled(anonymous: APIClient, alice: User) -> None:
    """A working password too."""
    statuses = [anonymous.post(LOGIN, **basic("correct horse")).status_code for _ in range(25)]
    assert statuses[0] == 200
    assert statuses[-1] == 429
