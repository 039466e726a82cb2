"""Cases of connections, time, broken answers and pace."""

from __future__ import annotations

from croplake.fetching.outcome import Status
from tests.faults import faults as f
from tests.faults.case import CONNECT_TIMEOUT_S, IN_TIME_S, READ_TIMEOUT_S, Case
from tests.faults.pictures import HTML, jpeg

TWO_READS_S = 2 * READ_TIMEOUT_S

CONNECTING = (
    Case("connection_refused", "no process listens at its port", Status.HOST_UNREACHABLE,
         "connect to", leads_to="refusing", num_requests=0, least_s=0.5),
    Case("black_hole", "answers no SYN", Status.HOST_UNREACHABLE, "timed out",
         leads_to="black_hole", num_requests=0, least_s=2 * CONNECT_TIMEOUT_S,
         greatest_s=IN_TIME_S),
    Case("unknown_host", "its name has no address", Status.HOST_UNKNOWN, "resolve",
         original=f"http://{'a' * 64}.example/photo.jpg", num_requests=0),
    Case("expired_certificate", "its certificate has expired", Status.BAD_CERTIFICATE,
         "expired", original="https://{host}/photo.jpg", leads_to="expired", num_requests=0),
    Case("wrong_host_certificate", "its certificate is another host's", Status.BAD_CERTIFICATE,
         "hostname", original="https://{host}/photo.jpg", leads_to="wrong_host", num_requests=0),
    Case("unknown_authority", "nobody that is trusted has signed its certificate",
         Status.BAD_CERTIFICATE, "certificate", original="https://{host}/photo.jpg",
         leads_to="unknown_ca", num_requests=0),
    Case("good_certificate", "has a certificate for its name", Status.OK, http_status=200,
         original="https://{host}/photo.jpg", leads_to="https"),
    Case("tls_to_a_plain_port", "speaks plain HTTP where TLS is expected",
         Status.CONNECTION_BROKEN, original="https://{host}/photo.jpg", num_requests=None),
    Case("tls_silence", "takes the connection and says nothing of TLS", Status.HOST_UNREACHABLE,
         "timed out", original="https://{host}/photo.jpg", leads_to="mute", num_requests=0,
         least_s=2 * CONNECT_TIMEOUT_S, greatest_s=IN_TIME_S),
    Case("unreachable_then_fall_back", "no process listens; the second source has the photo",
         Status.OK, leads_to="refusing", thumbnail="http://{other}/photo.jpg", http_status=200,
         source="thumbnail"),
)  # fmt: skip

TIME = (
    Case("silence", "takes the request and says nothing", Status.TIMED_OUT, "seconds",
         script=f.silent, num_requests=2, least_s=TWO_READS_S, greatest_s=IN_TIME_S),
    Case("headers_dripped", "sends its headers byte by byte", Status.TIMED_OUT,
         script=f.drips_headers, num_requests=2, http_status=200,
         least_s=TWO_READS_S, greatest_s=IN_TIME_S),
    Case("body_dripped", "sends the photo byte by byte, never silent", Status.TIMED_OUT,
         "timed out", script=f.drips_body, http_status=200, least_s=4.5, greatest_s=IN_TIME_S),
    Case("body_stalled", "sends half a photo, then nothing", Status.TIMED_OUT,
         script=f.stalls_in_body, num_requests=None, http_status=200,
         least_s=READ_TIMEOUT_S, greatest_s=IN_TIME_S),
    Case("endless_chunks", "sends chunks without an end", Status.TOO_MANY_BYTES, "more than",
         script=f.endless_chunks, http_status=200),
    Case("dripped_then_fall_back", "drips; the second source has the photo", Status.OK,
         script=f.drips_body, thumbnail="http://{other}/photo.jpg", http_status=200,
         source="thumbnail", num_requests=2, least_s=2.0, greatest_s=IN_TIME_S),
    Case("silent_then_well", "is silent once, then sends the photo", Status.OK,
         script=f.in_turn(f.silent, f.serves(jpeg)), http_status=200, num_requests=2,
         least_s=READ_TIMEOUT_S, greatest_s=IN_TIME_S),
)  # fmt: skip

BROKEN_OFF = (
    Case("reset_at_once", "resets the connection for an answer", Status.CONNECTION_BROKEN,
         script=f.resets_at_once, num_requests=None),
    Case("empty_reply", "hangs up without a word", Status.CONNECTION_BROKEN, "Empty reply",
         script=f.hangs_up, num_requests=None),
    Case("reset_in_body", "resets the connection within the photo", Status.CONNECTION_BROKEN,
         "reset", script=f.resets_in_body, http_status=200, num_requests=2),
    Case("short_of_content_length", "ends before its Content-Length", Status.INCOMPLETE,
         "bytes missing", script=f.short_of_its_length, http_status=200, num_requests=2),
    Case("cut_in_chunks", "ends before its last chunk", Status.INCOMPLETE, "remaining",
         script=f.cut_in_chunks, http_status=200, num_requests=2),
    Case("cut_without_length", "ends half-way, having told no length", Status.BROKEN_PHOTO,
         "Premature end", script=f.cut_without_length, http_status=200),
    Case("broken_chunk", "sends a chunk whose length is no number", Status.BAD_ANSWER, "chunk",
         script=f.breaks_a_chunk, http_status=200, num_requests=2),
    Case("good_chunks", "sends a sound photo in chunks", Status.OK, script=f.chunked,
         http_status=200),
    Case("stale_keep_alive", "closes a kept connection as it is used again", Status.OK,
         script=f.stale_keep_alive, http_status=200, num_requests=3),
    Case("not_http", "answers in another protocol", Status.BAD_ANSWER, "HTTP/0.9",
         script=f.speaks_ssh, num_requests=2),
    Case("unknown_http", "answers in a version of HTTP that is none", Status.BAD_ANSWER,
         script=f.speaks_http_9, num_requests=2),
    Case("reset_then_well", "resets once, then sends the photo", Status.OK,
         script=f.in_turn(f.resets_in_body, f.serves(jpeg)), http_status=200, num_requests=2),
    Case("many_headers", "sends 100,000 bytes of headers", Status.BAD_ANSWER, "headers of more",
         script=f.many_headers, http_status=200, num_requests=2),
    Case("one_long_header", "sends a header of 300,000 bytes", Status.BAD_ANSWER,
         "a header beyond", script=f.one_long_header, http_status=200, num_requests=2),
    Case("endless_continue", "answers 100 Continue for ever", Status.BAD_ANSWER,
         "headers of more", script=f.endless_continue, http_status=100, num_requests=2),
)  # fmt: skip

ANSWERS = (
    *(
        Case(f"busy_{status}_{name}", f"answers {status}, Retry-After: {value or 'absent'}",
             Status.BUSY, f"HTTP {status}", script=f.busy(status, value), http_status=status,
             num_requests=2, least_s=least_s)
        for status in (429, 503)
        for name, value, least_s in (
            ("for_a_second", "1", 1.0),
            ("for_a_day", "86400", 1.0),
            ("for_garbage", "soon", 0.5),
            ("for_unknown", None, 0.5),
        )
    ),
    Case("busy_429_until_a_date", "answers 429, Retry-After: a date", Status.BUSY,
         "to be left alone for", script=f.busy_until_a_date, http_status=429, num_requests=2,
         least_s=1.0),
    Case("busy_then_well", "answers 429 once, then sends the photo", Status.OK,
         script=f.in_turn(f.busy(429, "1"), f.serves(jpeg)), http_status=200, num_requests=2,
         least_s=1.0),
    Case("busy_then_fall_back", "answers 429; the second source has the photo", Status.OK,
         script=f.busy(429, "86400"), thumbnail="http://{other}/photo.jpg", http_status=200,
         source="thumbnail", num_requests=2),
    Case("error_500", "answers 500", Status.SERVER_ERROR, "HTTP 500", script=f.refuses(500),
         http_status=500, num_requests=2),
    Case("error_500_then_well", "answers 500 once, then sends the photo", Status.OK,
         script=f.in_turn(f.refuses(500), f.serves(jpeg)), http_status=200, num_requests=2),
    Case("forbidden_403", "answers 403", Status.REFUSED, "HTTP 403", script=f.refuses(403),
         http_status=403),
    Case("gone_404", "answers 404", Status.NOT_FOUND, "HTTP 404", script=f.refuses(404),
         http_status=404),
    Case("gone_410", "answers 410", Status.NOT_FOUND, "HTTP 410", script=f.refuses(410),
         http_status=410),
    Case("gone_then_fall_back", "answers 404; the second source has the photo", Status.OK,
         script=f.refuses(404), thumbnail="http://{other}/photo.jpg", http_status=200,
         source="thumbnail", num_requests=2),
    Case("endless_error_page", "answers 404 with a page without an end", Status.NOT_FOUND,
         "HTTP 404", script=f.endless_error_page, http_status=404),
    Case("partial_206", "answers 206 to a request for all", Status.REFUSED, "HTTP 206",
         script=f.serves(jpeg, status=206), http_status=206),
    Case("html_for_an_error", "answers 500 with a page", Status.SERVER_ERROR, "HTTP 500",
         script=f.serves(HTML, "text/html", 500), http_status=500, num_requests=2),
)  # fmt: skip
