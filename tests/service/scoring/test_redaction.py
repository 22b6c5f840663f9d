import time

import pytest

from service.scoring.redaction import LONGEST, redacted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to ann.lee+x@mail.example.org now", "write to [email] now"),
        ("see https://example.org/a?b=c#d and www.example.org.", "see [url] and [url]"),
        ("call +49 (170) 123-4567 today", "call [number] today"),
        ("call 555-123-4567.", "call [number]."),
        ("card 4111 1111 1111 1111, please", "card [number], please"),
        ("card 4111-1111-1111-1111", "card [number]"),
        ("number 123456789012345", "number [number]"),
        ("at 192.168.10.254, port 80", "at [ip], port 80"),
        ("at 2001:db8:85a3::8a2e:370:7334 and fe80::1", "at [ip] and [ip]"),
        ("thanks @some_body and @a.b@example.social", "thanks [handle] and [handle]"),
        ("key sk-proj_a8F3kd93kfLs02mfW8slq", "key [secret]"),
        ("hash d41d8cd98f00b204e9800998ecf8427e!", "hash [secret]!"),
        ("token AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGhIjKlMnOpQr", "token [secret]"),
        ("wide \uff14\uff11\uff11\uff11\uff11\uff11\uff11\uff11 digits", "wide [number] digits"),
        ("split 555\u200b1234\u200b567", "split [number]"),
        ("\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668", "[number]"),
    ],
)
def test_what_tells_who_or_opens_a_door_is_taken_out(text, expected):
    assert redacted(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "You fool, it is 12:30:45 and you still sleep.",
        "There are 7 days, 365 nights and 1,000 reasons.",
        "An extraordinarily counterrevolutionary thought",
        "5 @ 3 euros; state-of-the-art",
        "",
    ],
)
def test_plain_words_stay(text):
    assert redacted(text) == text


def test_a_long_text_is_shortened_and_says_so():
    assert redacted("word " * 1000) == ("word " * 400) + "…"
    assert redacted("x y" + " z" * 998) == "x y" + " z" * 998


def test_a_secret_across_the_end_is_taken_out_whole():
    text = "ab " * 664 + "4111 1111 1111 1111"
    assert len(text) > LONGEST
    assert redacted(text) == "ab " * 664 + "[number]"


def test_what_no_database_takes_is_left_out():
    assert redacted("a\x00b\ud800c") == "abc"


@pytest.mark.parametrize(
    "piece", ["1", "a", "a1", "@", "a@", ":", "a:", "1.", "1 ", "http://", "-", "aB3+", "\ufdfa", "(", "1(", "x.", "é"]
)
def test_no_text_takes_long(piece):
    started = time.perf_counter()
    redacted(piece * 1_000_000)
    assert time.perf_counter() - started < 0.5
