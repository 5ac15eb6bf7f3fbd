"""What operators order holds for the stores they mean, and who waits hears of it."""

from scrubber.orders import ALL, Orders, StoreOrder


def test_nothing_is_ordered_of_a_store_that_nobody_named() -> None:
    orders = Orders()
    orders.replace({"slow": StoreOrder(paused=True, max_rate=1)})
    assert orders.of("fast") == StoreOrder()
    assert orders.of("slow") == StoreOrder(paused=True, max_rate=1)
    assert not orders.all_paused
    assert orders.why_paused("fast") is None
    assert "scrubber-manage resume slow" in (orders.why_paused("slow") or "")


def test_a_pause_of_all_stores_holds_for_each() -> None:
    orders = Orders()
    orders.replace({"slow": StoreOrder(max_rate=1)}, all_paused=True)
    assert orders.all_paused
    assert orders.of("fast").paused
    # To resume the store alone would not help.
    assert (orders.why_paused("fast") or "").endswith("scrubber-manage resume")
    assert orders.of("slow") == StoreOrder(paused=True, max_rate=1)


def test_of_a_limit_for_all_stores_and_one_for_the_store_the_lower_holds() -> None:
    orders = Orders()
    orders.replace({ALL: StoreOrder(max_rate=5), "slow": StoreOrder(max_rate=1)})
    assert orders.of("slow").max_rate == 1
    assert orders.of("fast").max_rate == 5
    assert StoreOrder(max_rate=5).most(3) == 3
    assert StoreOrder(max_rate=5).most(None) == 5
    assert StoreOrder().most(3) == 3
    assert StoreOrder().most(None) is None


def test_what_is_ordered_no_more_holds_no_more() -> None:
    orders = Orders()
    orders.replace({"slow": StoreOrder(paused=True)}, all_paused=True)
    orders.replace({})
    assert orders.of("slow") == StoreOrder()
    assert not orders.all_paused


def test_who_waits_is_woken_by_what_is_new_only() -> None:
    """Orders are read twice a second; hardly ever is anything new."""
    woken: list[int] = []
    orders = Orders(lambda: woken.append(1))
    for _ in range(3):
        orders.replace({"slow": StoreOrder(paused=True)})
    assert len(woken) == 1
    orders.replace({})
    assert len(woken) == 2
