//! What the simulation answers, compared with what the real API was seen to answer.

use http::StatusCode;
use serde_json::{Value, json};

use super::*;

const MODEL: &str = "gpt-4o";

#[test]
fn a_success_is_a_chat_completion_with_the_six_headers() {
    let mut api = api(10_000, 10_000);
    let response = api.ask("Hello", 10, Instant::now());
    assert_eq!(response.status(), StatusCode::OK);
    for (name, value) in [
        ("content-type", "application/json"),
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-limit-tokens", "10000"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-remaining-tokens", "9988"),
        ("x-ratelimit-reset-requests", "6ms"),
        ("x-ratelimit-reset-tokens", "72ms"),
        ("x-request-id", "req_00000000000000000000000000000001"),
    ] {
        assert_eq!(response.headers()[name], value, "{name}");
    }
    assert!(!response.headers().contains_key("retry-after"));

    let body = json_of(&response);
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["model"], MODEL);
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert!(body["choices"][0]["message"]["content"].is_string());
    assert_eq!(body["usage"]["total_tokens"], 11);
}

#[test]
fn a_refusal_by_the_requests_per_minute_reads_as_the_real_one() {
    let mut api = api(3, 40_000);
    let now = Instant::now();
    for _ in 0..3 {
        assert_eq!(api.ask("Hello", 10, now).status(), StatusCode::OK);
    }
    let refusal = api.ask("Hello", 10, now);
    assert_eq!(refusal.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        json_of(&refusal),
        json!({"error": {
            "message": "Rate limit reached for gpt-4o in organization org-simulation on requests \
                per min (RPM): Limit 3, Used 3, Requested 1. Please try again in 20s. Visit \
                https://platform.openai.com/account/rate-limits to learn more.",
            "type": "requests",
            "param": null,
            "code": "rate_limit_exceeded",
        }})
    );
    for (name, value) in [
        ("retry-after", "20"),
        ("retry-after-ms", "20000"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "1m0s"),
    ] {
        assert_eq!(refusal.headers()[name], value, "{name}");
    }
    let counts = api.counts(MODEL);
    assert_eq!((counts.completed, counts.refused), (3, 1));
}

#[test]
fn a_refusal_by_the_tokens_per_minute_reads_as_the_real_one() {
    let mut api = api(500, 30_000);
    let now = Instant::now();
    assert_eq!(api.ask("", 22_999, now).status(), StatusCode::OK);
    let refusal = api.ask("", 12_528, now);
    assert_eq!(refusal.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        json_of(&refusal),
        json!({"error": {
            "message": "Rate limit reached for gpt-4o in organization org-simulation on tokens \
                per min (TPM): Limit 30000, Used 22999, Requested 12528. Please try again in \
                11.054s. Visit https://platform.openai.com/account/rate-limits to learn more.",
            "type": "tokens",
            "param": null,
            "code": "rate_limit_exceeded",
        }})
    );
    for (name, value) in [
        ("retry-after", "12"),
        ("retry-after-ms", "11054"),
        ("x-ratelimit-remaining-requests", "498"),
        ("x-ratelimit-remaining-tokens", "7001"),
        ("x-ratelimit-reset-tokens", "45.998s"),
    ] {
        assert_eq!(refusal.headers()[name], value, "{name}");
    }
}

#[test]
fn a_request_over_the_whole_limit_is_refused_without_a_wait() {
    let mut api = api(500, 30_000);
    let refusal = api.ask("", 38_324, Instant::now());
    assert_eq!(refusal.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        json_of(&refusal),
        json!({"error": {
            "message": "Request too large for gpt-4o in organization org-simulation on tokens per \
                min (TPM): Limit 30000, Requested 38324. The input or output tokens must be \
                reduced in order to run successfully. Visit \
                https://platform.openai.com/account/rate-limits to learn more.",
            "type": "tokens",
            "param": null,
            "code": "rate_limit_exceeded",
        }})
    );
    assert!(!refusal.headers().contains_key("retry-after"));
    assert!(!refusal.headers().contains_key("retry-after-ms"));
}

#[test]
fn a_refusal_by_the_number_in_service_names_no_wait() {
    let limits = Limits::per_minute(500, 30_000).concurrent(2);
    let mut api = OpenAi::new().model(MODEL, limits);
    let now = Instant::now();
    for _ in 0..2 {
        assert_eq!(api.ask("Hello", 10, now).status(), StatusCode::OK);
    }
    let refusal = api.ask("Hello", 10, now + Duration::from_secs(60));
    assert_eq!(refusal.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        json_of(&refusal),
        json!({"error": {
            "message": "Too many requests in flight for gpt-4o in organization org-simulation: \
                Limit 2. Visit https://platform.openai.com/account/rate-limits to learn more.",
            "type": "requests",
            "param": null,
            "code": "rate_limit_exceeded",
        }})
    );
    assert!(!refusal.headers().contains_key("retry-after"));
    assert!(!refusal.headers().contains_key("retry-after-ms"));
    assert_eq!(refusal.headers()["x-ratelimit-remaining-requests"], "499");
    api.finished(&request(OpenAi::KEY, &chat("Hello", 10)));
    assert_eq!(api.ask("Hello", 10, now).status(), StatusCode::OK);
    assert_eq!(
        api.ask("Hello", 10, now).status(),
        StatusCode::TOO_MANY_REQUESTS
    );
    let counts = api.counts(MODEL);
    assert_eq!((counts.completed, counts.refused), (3, 2));
}

#[test]
fn those_in_service_are_counted_by_key_and_model() {
    let limits = Limits::per_minute(500, 30_000).concurrent(1);
    let mut api = OpenAi::new()
        .key("sk-other")
        .model(MODEL, limits)
        .model("gpt-4o-mini", limits);
    let mut other_model = chat("Hello", 10);
    other_model["model"] = json!("gpt-4o-mini");
    let requests = [
        request(OpenAi::KEY, &chat("Hello", 10)),
        request("sk-other", &chat("Hello", 10)),
        request(OpenAi::KEY, &other_model),
    ];
    let now = Instant::now();
    for expected in [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS] {
        for request in &requests {
            assert_eq!(api.answer(request, now).status(), expected);
        }
    }
    api.finished(&requests[1]);
    let statuses = requests.map(|request| api.answer(&request, now).status().as_u16());
    assert_eq!(statuses, [429, 200, 429]);
}

#[test]
fn a_key_without_money_is_refused_for_good() {
    let mut api = api(500, 30_000).spent_key("sk-spent");
    let request = request("sk-spent", &chat("Hello", 10));
    let refusal = api.answer(&request, Instant::now());
    assert_eq!(refusal.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        json_of(&refusal),
        json!({"error": {
            "message": "You exceeded your current quota, please check your plan and billing \
                details. For more information on this error, read the docs: \
                https://platform.openai.com/docs/guides/error-codes/api-errors.",
            "type": "insufficient_quota",
            "param": null,
            "code": "insufficient_quota",
        }})
    );
    assert!(!refusal.headers().contains_key("x-ratelimit-limit-requests"));
    assert_eq!(api.counts(MODEL).refused, 1);
}

#[test]
fn who_waits_as_told_is_admitted_and_who_comes_earlier_is_not() {
    let mut api = api(500, 30_000);
    let start = Instant::now();
    for _ in 0..500 {
        assert_eq!(api.ask("Hello", 10, start).status(), StatusCode::OK);
    }
    // 50 ms after the last success 5/12 of a request are there; the refusal takes them.
    let now = start + Duration::from_millis(50);
    assert_eq!(wait_of(&api.ask("Hello", 10, now)), 120);
    let told = now + Duration::from_millis(120);
    let early = told - Duration::from_nanos(1);
    assert_eq!(wait_of(&api.clone().ask("Hello", 10, early)), 120);
    assert_eq!(api.ask("Hello", 10, told).status(), StatusCode::OK);
}

#[test]
fn a_refusal_takes_one_request_and_no_tokens() {
    let mut api = api(2, 1_000);
    let now = Instant::now();
    assert_eq!(api.ask("", 900, now).status(), StatusCode::OK);
    // Refused by the tokens, which takes the last request: 30 s for the next one
    // are now the longer wait.
    let refusal = api.ask("", 200, now);
    assert_eq!(json_of(&refusal)["error"]["type"], "requests");
    assert_eq!(wait_of(&refusal), 30_000);
    assert_eq!(refusal.headers()["x-ratelimit-remaining-tokens"], "100");
    let then = now + Duration::from_secs(30);
    assert_eq!(api.ask("", 200, then).status(), StatusCode::OK);
}

#[test]
fn keys_and_models_have_quotas_of_their_own() {
    let mut api = api(1, 1_000)
        .key("sk-other")
        .model("gpt-5", Limits::per_minute(1, 1_000));
    let now = Instant::now();
    let mut other_model = chat("Hello", 10);
    other_model["model"] = json!("gpt-5");
    let requests = [
        request(OpenAi::KEY, &chat("Hello", 10)),
        request("sk-other", &chat("Hello", 10)),
        request(OpenAi::KEY, &other_model),
    ];
    for request in &requests {
        assert_eq!(api.answer(request, now).status(), StatusCode::OK);
    }
    for request in &requests {
        assert_eq!(
            api.answer(request, now).status(),
            StatusCode::TOO_MANY_REQUESTS
        );
    }
}

#[test]
fn what_is_wrong_with_a_request_is_said_as_openai_says_it() {
    let good = request(OpenAi::KEY, &chat("Hello", 10));
    let with = |change: fn(&mut Request<Bytes>)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let without = |field: &str| {
        let mut body = chat("Hello", 10);
        body.as_object_mut().unwrap().remove(field);
        request(OpenAi::KEY, &body)
    };
    let mut unknown_model = chat("Hello", 10);
    unknown_model["model"] = json!("gpt-9");
    let mut negative = chat("Hello", 10);
    negative["max_tokens"] = json!(-1);

    for (request, status, code, message) in [
        (
            with(|r| drop(r.headers_mut().remove("authorization"))),
            401,
            None,
            "You didn't provide an API key.",
        ),
        (
            request("sk-proj-0123456789abcdef", &chat("Hello", 10)),
            401,
            Some("invalid_api_key"),
            "Incorrect API key provided: sk-proj-************cdef. You can find",
        ),
        (
            with(|r| *r.uri_mut() = "/v1/chat".parse().unwrap()),
            404,
            None,
            "Invalid URL (POST /v1/chat)",
        ),
        (
            with(|r| *r.method_mut() = Method::GET),
            405,
            None,
            "Not allowed to GET on /v1/chat/completions",
        ),
        (
            with(|r| *r.body_mut() = Bytes::from_static(b"{")),
            400,
            None,
            "We could not parse the JSON body of your request.",
        ),
        (
            without("model"),
            400,
            None,
            "you must provide a model parameter",
        ),
        (
            without("messages"),
            400,
            Some("missing_required_parameter"),
            "Missing required parameter: 'messages'.",
        ),
        (
            request(OpenAi::KEY, &negative),
            400,
            None,
            "Invalid request: ",
        ),
        (
            request(OpenAi::KEY, &unknown_model),
            404,
            Some("model_not_found"),
            "The model `gpt-9` does not exist or you do not have access to it.",
        ),
    ] {
        let response = api(500, 30_000).answer(&request, Instant::now());
        let error = &json_of(&response)["error"];
        assert_eq!(response.status(), status, "{message}");
        assert_eq!(error["type"], "invalid_request_error", "{message}");
        assert_eq!(error["code"], json!(code), "{message}");
        let said = error["message"].as_str().unwrap();
        assert!(said.starts_with(message), "{said}");
        assert!(response.headers().contains_key("x-request-id"), "{message}");
    }
}

#[test]
fn tokens_are_a_quarter_of_the_content_and_what_the_answer_may_take() {
    for (body, tokens) in [
        (json!({"messages": [{"content": "12345"}]}), 18),
        (
            json!({"messages": [{"content": "12345678"}, {"content": "9"}], "max_tokens": 7}),
            10,
        ),
        (
            json!({"messages": [{"content": null}], "max_completion_tokens": 5, "max_tokens": 9}),
            5,
        ),
        (
            json!({"messages": [{"content": [{"text": "12345678"}, {"type": "image_url"}]}]}),
            18,
        ),
        (json!({"messages": [], "max_tokens": u32::MAX}), u32::MAX),
    ] {
        let mut body = body;
        body["model"] = json!(MODEL);
        let chat = ChatRequest::parse(body.to_string().as_bytes()).unwrap();
        assert_eq!(chat.token_cost(), tokens, "{body}");
    }
}

#[test]
fn the_least_time_is_that_of_the_limit_that_lets_go_last() {
    let limits = Limits::per_minute(500, 200_000);
    assert_eq!(limits.time_for(500, 18), Duration::ZERO);
    assert_eq!(limits.time_for(700, 18), Duration::from_secs(24));
    assert_eq!(limits.time_for(700, 500), Duration::from_secs(45));
}

#[test]
fn all_requests_that_the_least_time_promises_are_admitted_in_it() {
    let limits = Limits::per_minute(200, 40_000);
    let mut api = OpenAi::new().model(MODEL, limits);
    let start = Instant::now();
    let mut now = start;
    for _ in 0..300 {
        loop {
            let response = api.ask("Hello", 16, now);
            if response.status() == StatusCode::OK {
                break;
            }
            now += Duration::from_millis(wait_of(&response));
        }
    }
    assert_eq!(now - start, limits.time_for(300, 18));
}

fn api(requests: u32, tokens: u32) -> OpenAi {
    OpenAi::new().model(MODEL, Limits::per_minute(requests, tokens))
}

impl OpenAi {
    fn ask(&mut self, content: &str, max_tokens: u32, now: Instant) -> Response<Bytes> {
        self.answer(&request(Self::KEY, &chat(content, max_tokens)), now)
    }
}

fn chat(content: &str, max_tokens: u32) -> Value {
    let messages = json!([{"role": "user", "content": content}]);
    json!({"model": MODEL, "messages": messages, "max_tokens": max_tokens})
}

fn request(key: &str, body: &Value) -> Request<Bytes> {
    Request::post("/v1/chat/completions")
        .header("authorization", format!("Bearer {key}"))
        .body(Bytes::from(body.to_string()))
        .unwrap()
}

fn json_of(response: &Response<Bytes>) -> Value {
    serde_json::from_slice(response.body()).unwrap()
}

/// In milliseconds.
fn wait_of(refusal: &Response<Bytes>) -> u64 {
    let value = refusal.headers()["retry-after-ms"].to_str().unwrap();
    value.parse().unwrap()
}
