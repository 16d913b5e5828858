"""Property values survive the way to the engine and back."""

from hypothesis import given
from hypothesis import strategies as st

from sandbox.twins.wire import OUTPUT, RESOURCE, SIGNATURE, UNKNOWN, decode, encode

plain = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.just(UNKNOWN),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(min_size=1), plain, max_size=4), st.data())
def test_there_and_back(props, data):
    secrets = data.draw(st.sets(st.sampled_from(sorted(props)))) if props else set()
    assert decode(encode(props, secrets)) == (props, secrets)


def test_a_secret_inside_makes_the_whole_property_secret():
    inner = encode({"password": "x"}, ["password"])
    struct = encode({"connection": {}, "other": 1})
    struct.fields["connection"].struct_value.CopyFrom(inner)
    assert decode(struct) == ({"connection": {"password": "x"}, "other": 1}, {"connection"})


def test_outputs_and_references_to_resources_are_plain_values():
    struct = encode({
        "a": {SIGNATURE: OUTPUT, "value": 1.5, "secret": True},
        "b": {SIGNATURE: OUTPUT},
        "c": {SIGNATURE: RESOURCE, "urn": "u", "id": "i"},
        "d": None,
    })  # fmt: skip
    assert decode(struct) == ({"a": 1.5, "b": UNKNOWN, "c": "i"}, {"a"})
