"""Places at the engine: how many there are, and for whom."""

from __future__ import annotations

import time

import pytest

from inference import admission
from inference.admission import Admission, TooManyPlacesError
from inference.engines.base import EngineBusy, retry_after


def test_each_user_has_a_share_and_all_together_have_the_places() -> None:
    places = Admission(4, 2)
    held = [places.enter("a"), places.enter("a")]
    with pytest.raises(TooManyPlacesError, match="requests take 2 places, and may take 2"):
        places.enter("a")
    held += [places.enter("b"), places.enter("c")]
    for client in "abcd":
        with pytest.raises(EngineBusy, match="full"):
            places.enter(client)
    for place in held:
        with place:
            pass
    with places.enter("a"), places.enter("a"):
        pass


def test_a_large_picture_takes_more_places_and_gives_all_of_them_back() -> None:
    places = Admission(8, 4)
    with places.enter("a") as one:
        one.widen(3)
        with places.enter("a") as another:
            with pytest.raises(TooManyPlacesError):
                another.widen(2)
            another.widen(1)
        with places.enter("b") as theirs:
            theirs.widen(4)
            with places.enter("c") as last, pytest.raises(EngineBusy, match="no room for a picture of this size"):
                last.widen(2)
    with places.enter("a") as one:
        one.widen(4)


def test_one_request_alone_may_be_larger_than_all_places() -> None:
    places = Admission(4, 2)
    with places.enter("a") as one:
        one.widen(12)
        with pytest.raises(EngineBusy):
            places.enter("b")
    with places.enter("b"):
        pass


def test_an_engine_that_was_full_is_asked_again_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    places = Admission(4, 2)
    places.hold()
    with pytest.raises(EngineBusy):
        places.check()
    monkeypatch.setattr(admission, "HOLD_S", -1.0)
    places.hold()
    places.check()


def test_a_place_knows_for_how_long_it_is_held() -> None:
    with Admission(1, 1).enter("a") as place:
        time.sleep(0.01)
        assert 0.01 <= place.waited_s < 60


def test_whoever_is_refused_together_comes_back_apart() -> None:
    told = {int(retry_after()) for _ in range(200)}
    assert len(told) > 2 and min(told) >= 2 and max(told) <= 6
