"""Requests made up from a descriptor."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, text_format, timestamp_pb2

from otelstream.stress.messages import make_request, make_requests
from otelstream.stress.reflection import Method
from otelstream.stress.target import StressError

FILE = """
name: "shop.proto" package: "shop" syntax: "proto2"
dependency: "google/protobuf/timestamp.proto"
enum_type { name: "Side" value { name: "NONE" number: 0 } value { name: "BUY" number: 2 } }
message_type {
  name: "Order"
  field { name: "id" number: 1 label: LABEL_REQUIRED type: TYPE_SINT64 }
  field { name: "price" number: 2 label: LABEL_OPTIONAL type: TYPE_FLOAT }
  field { name: "note" number: 3 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "dry_run" number: 4 label: LABEL_OPTIONAL type: TYPE_BOOL }
  field { name: "side" number: 5 label: LABEL_OPTIONAL type: TYPE_ENUM type_name: ".shop.Side" }
  field { name: "tags" number: 6 label: LABEL_REPEATED type: TYPE_STRING }
  field { name: "parent" number: 7 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".shop.Order" }
  field { name: "others" number: 8 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".shop.Order" }
  field { name: "time" number: 9 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.Timestamp" }
  field { name: "first" number: 10 label: LABEL_OPTIONAL type: TYPE_STRING oneof_index: 0 }
  field { name: "second" number: 11 label: LABEL_OPTIONAL type: TYPE_BYTES oneof_index: 0 }
  field { name: "padding" number: 12 label: LABEL_OPTIONAL type: TYPE_BYTES }
  oneof_decl { name: "either" }
}
message_type {
  name: "Count"
  field { name: "count" number: 1 label: LABEL_OPTIONAL type: TYPE_UINT32 }
}
message_type {
  name: "Tree"
  field { name: "left" number: 1 label: LABEL_REQUIRED type: TYPE_MESSAGE type_name: ".shop.Tree" }
}
"""


@pytest.fixture(scope="module")
def pool() -> descriptor_pool.DescriptorPool:
    made = descriptor_pool.DescriptorPool()
    made.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    made.AddSerializedFile(text_format.Parse(FILE, descriptor_pb2.FileDescriptorProto()).SerializeToString())
    return made


def taking(pool: descriptor_pool.DescriptorPool, name: str, method: str = "shop.Shop/Buy") -> Method:
    return Method(method, True, True, message_factory.GetMessageClass(pool.FindMessageTypeByName(f"shop.{name}")), pool)


def parsed(method: Method, request: bytes) -> dict[str, Any]:
    message: dict[str, Any] = json_format.MessageToDict(method.request.FromString(request))
    return message


def test_every_field_has_a_small_value_and_no_flag_is_set(pool: descriptor_pool.DescriptorPool) -> None:
    order = taking(pool, "Order")
    filled = {
        "id": "1",
        "price": 1.0,
        "note": "x",
        "dryRun": False,
        "side": "BUY",
        "tags": ["x"],
        "first": "x",
        "padding": "eA==",
    }
    innermost = {**filled, "parent": {**filled, "parent": {**filled, "parent": filled}}}
    assert parsed(order, make_request(order)) == innermost


@pytest.mark.parametrize("size", [100, 191, 192, 193, 20_000])
def test_a_request_is_padded_in_its_bytes_field(pool: descriptor_pool.DescriptorPool, size: int) -> None:
    order = taking(pool, "Order")
    request = make_request(order, size=size)
    assert size - 1 <= len(request) <= size  # a length prefix that grows by a byte may leave one
    assert parsed(order, request)["note"] == "x"


def test_a_request_that_is_larger_than_asked_for_has_an_empty_padding(pool: descriptor_pool.DescriptorPool) -> None:
    order = taking(pool, "Order")
    assert parsed(order, make_request(order, size=1))["padding"] == ""


def test_a_request_with_nothing_to_pad(pool: descriptor_pool.DescriptorPool) -> None:
    with pytest.raises(StressError, match=r"shop\.Count has no bytes or string field that --size could pad"):
        make_request(taking(pool, "Count"), size=100)


def test_a_request_from_json(pool: descriptor_pool.DescriptorPool) -> None:
    count = taking(pool, "Count")
    assert parsed(count, make_request(count, '{"count": 7}')) == {"count": 7}


@pytest.mark.parametrize("data", ['{"cuont": 7}', "{", '{"count": "many"}'])
def test_json_that_does_not_fit(pool: descriptor_pool.DescriptorPool, data: str) -> None:
    with pytest.raises(StressError, match=r"--data is no JSON of a shop\.Count, which shop\.Shop/Buy takes: "):
        make_request(taking(pool, "Count"), data)


@pytest.mark.parametrize("data", [None, "{}"])
def test_a_request_that_lacks_what_is_required(pool: descriptor_pool.DescriptorPool, data: str | None) -> None:
    with pytest.raises(StressError, match=r"No shop\.Tree for shop\.Shop/Buy can be made"):
        make_request(taking(pool, "Tree"), data)


def test_json_is_for_one_method_or_for_all(pool: descriptor_pool.DescriptorPool) -> None:
    methods = [taking(pool, "Count", f"shop.Shop/{name}") for name in ("A", "B", "C")]
    defaults = {"shop.Shop/B": '{"count": 5}', "shop.Shop/C": '{"count": 6}'}

    def counts(*data: str) -> list[int]:
        requests = make_requests(methods, data, None, defaults)
        return [parsed(request.method, request.message)["count"] for request in requests]

    assert counts() == [1, 5, 6]
    assert counts('{"count": 7}') == [7, 7, 7]
    assert counts('shop.Shop/B={"count": 8}') == [1, 8, 6]
    assert counts('shop.Shop/B={"count": 8}', '{"count": 7}') == [7, 8, 7]
    with pytest.raises(StressError, match=r"--data is for shop\.Shop/D, which is not driven"):
        counts("shop.Shop/D={}")
