from attrition.engine import backends


def test_results_are_in_the_order_of_the_calls():
    assert backends.run("operator:sub", [(3, 1), (10, 4)]) == [2, 6]
