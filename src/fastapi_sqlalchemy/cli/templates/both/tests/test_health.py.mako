"""What a platform asks."""

from fastapi.testclient import TestClient


def test_the_application_is_live_and_ready(client: TestClient) -> None:
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json()["status"] == "ready"
