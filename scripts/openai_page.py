"""Writes `docs/api/openai.md` from the tables that the parsers read by, and from the tests that hold them to it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from atrium.decisions.enforce_schema import CONSTRAINING, FORMATS, IN_PLACE, KEPT, LEAST, MOST
from atrium.dialects.openai.field_table import CHAT, COMPLETION, HINTS, FieldRule

HEAD = """# OpenAI's API

Made by `scripts/openai_page.py` from the tables that the parsers read by; tests compare it, and every row names the
test that holds it. What is dropped is named in `X-Atrium-Dropped`, also on streams; what is refused is a 400
`unsupported_parameter` that names the field. Under `/ollama/v1` all of it is served a second time.
"""
ROUTES = (
    (
        "`GET /v1/models`, `GET /v1/models/{id}`",
        "the models a request may name",
        "openai_sdk::test_models_are_listed_and_found",
    ),
    (
        "`POST /v1/chat/completions`",
        "a chat, whole or streamed",
        "openai_sdk::test_a_stream_says_the_same_as_the_whole_answer",
    ),
    (
        "`GET /v1/chat/completions`",
        "the caller's kept chats; `limit`, `order`, `after`, `before`, `model`, `metadata[key]`",
        "kept_chats::test_lists_are_paged_ordered_and_chosen_by_metadata",
    ),
    (
        "`GET`, `POST`, `DELETE /v1/chat/completions/{id}`",
        "one of them: read, change its metadata, forget it",
        "kept_chats::test_metadata_is_changed_and_a_deleted_one_is_gone",
    ),
    (
        "`GET /v1/chat/completions/{id}/messages`",
        "what was asked in it",
        "kept_chats::test_a_kept_answer_is_read_again_with_what_was_asked",
    ),
    (
        "`POST /v1/responses`",
        "a conversation in the words of the Responses API; nothing is kept, so what needs that is refused by name",
        "responses::test_a_response_is_the_same_whole_and_streamed",
    ),
    ("`POST /v1/completions`", "raw prompts continued", "openai_sdk::test_a_raw_completion_continues_its_prompt"),
    (
        "`POST /v1/embeddings`",
        "vectors of texts or token ids",
        "openai_sdk::test_embeddings_come_as_base64_by_default_and_equal_the_floats",
    ),
)
SAMPLING = "openai_wire::test_sampling_fields_change_what_is_said"
WRONG = "openai_requests::test_a_wrong_field_is_named"
SHAPED = "openai_requests::test_the_shape_of_an_answer"
TESTS: Mapping[str, str] = {
    "messages": "openai_requests::test_an_answered_tool_call_is_understood",
    "model": "openai_sdk::test_an_unknown_model_is_named_with_its_nearest",
    "max_tokens": "openai_requests::test_the_length_of_an_answer",
    "max_completion_tokens": "openai_requests::test_the_length_of_an_answer",
    "temperature": SAMPLING,
    "top_p": SAMPLING,
    "top_k": SAMPLING,
    "min_p": SAMPLING,
    "typical_p": "llamacpp_wishes::test_every_sampling_field_goes_to_the_engine",
    "repeat_penalty": SAMPLING,
    "repetition_penalty": SAMPLING,
    "repeat_last_n": "llamacpp_wishes::test_every_sampling_field_goes_to_the_engine",
    "frequency_penalty": SAMPLING,
    "presence_penalty": SAMPLING,
    "seed": "openai_sdk::test_the_same_seed_gives_the_same_text",
    "logit_bias": SAMPLING,
    "min_tokens": "openai_wire::test_an_answer_is_as_long_as_it_must_be",
    "ignore_eos": "openai_wire::test_an_answer_is_as_long_as_it_must_be",
    "stop": "openai_sdk::test_a_stop_string_never_shows",
    "n": "openai_sdk::test_several_choices_count_their_prompt_once",
    "stream": "other_clients::test_the_event_stream_keeps_the_contracts_order",
    "stream_options": "other_clients::test_the_event_stream_keeps_the_contracts_order",
    "user": "openai_wire::test_whom_it_is_for_stands_in_the_closing_event",
    "metadata": "openai_wire::test_whom_it_is_for_stands_in_the_closing_event",
    "keep_alive": WRONG,
    "response_format": SHAPED,
    "grammar": "openai_requests::test_a_grammar_is_kept_as_text",
    "grammar_json_functions": "openai_wire::test_old_functions_of_localai_shape_the_answer",
    "logprobs": "openai_sdk::test_logprobs_are_sorted_and_a_greedy_token_comes_first",
    "top_logprobs": "openai_sdk::test_logprobs_are_sorted_and_a_greedy_token_comes_first",
    "tools": "openai_wire::test_a_tools_schema_is_held_to_the_same",
    "tool_choice": "openai_sdk::test_a_demanded_tool_is_called_with_arguments_of_its_schema",
    "parallel_tool_calls": "openai_requests::test_how_tools_may_be_used",
    "functions": "openai_wire::test_an_old_function_is_called_in_the_old_form",
    "function_call": "openai_wire::test_an_old_function_is_called_in_the_old_form",
    "reasoning_effort": "openai_wire::test_what_the_models_template_does_not_know_is_dropped_by_name",
    "thinking": "openai_wire::test_what_the_models_template_does_not_know_is_dropped_by_name",
    "chat_template_kwargs": "openai_wire::test_what_the_models_template_does_not_know_is_dropped_by_name",
    "store": "kept_chats::test_a_kept_answer_is_read_again_with_what_was_asked",
    "truncation": "shortening::test_the_fewest_oldest_turns_are_left_out_and_the_answer_says_how_many",
    "atrium": "chat::test_an_answer_tells_what_it_stands_on",
    "personality": "personalities::test_a_personalitys_prompt_comes_first",
    "modalities": WRONG,
    "audio": "openai_requests::test_what_would_change_the_answer_and_cannot_be_done_is_refused",
    "web_search_options": "openai_requests::test_what_would_change_the_answer_and_cannot_be_done_is_refused",
    "prompt": "openai_requests::test_the_forms_of_a_prompt",
    "best_of": "openai_wire::test_the_best_of_several_texts_is_given",
    "echo": "openai_wire::test_an_echo_is_the_prompt_to_the_letter",
    "suffix": "openai_requests::test_the_best_of_fewer_than_wanted_is_refused",
}
OWN: Mapping[str, str] = {"logprobs": "openai_wire::test_an_echos_tokens_have_the_scores_that_generating_them_tells"}
"""Fields that completions have in another form."""
BEHAVIOUR = (
    ("a schema is enforced keyword by keyword", "enforce_schema::test_keywords_of_the_list_stay_as_they_are"),
    (
        "another constraining keyword is named, with `strict` refused",
        "openai_wire::test_a_keyword_that_cannot_be_enforced_is_named",
    ),
    (
        "whatever the default model writes fits the schema",
        "schema_suite::test_whatever_the_default_model_writes_fits_the_schema",
    ),
    ("schemas that explode are refused", "enforce_schema::test_a_schema_that_explodes_or_has_no_end_is_refused"),
    ("one of the allowed tools is called", "openai_wire::test_one_of_the_allowed_tools_is_called"),
    ("calls stream in their order, argument by argument", "openai_wire::test_several_calls_stream_in_their_order"),
    (
        "arguments that are elements, as Qwen's coders write them, are typed by the tool's schema",
        "elements::test_values_have_the_types_of_the_tools_schema",
    ),
    ("words may stand before a call", "markups::test_what_is_enforced_is_what_is_read"),
    ("malformed calls stay text", "llamacpp::test_what_is_no_call_stays_text"),
    (
        "reasoning goes to `reasoning_content`, wherever its tags are cut",
        "llamacpp::test_thoughts_are_told_apart_from_the_answer",
    ),
    ("what is shaped stands behind what is thought", "llamacpp::test_what_is_shaped_stands_behind_what_is_thought"),
    ("no part of a stop string gets out", "llamacpp::test_no_part_of_a_stop_string_gets_out_and_nothing_else_is_lost"),
    ("control text in a message is text", "llamacpp::test_the_template_makes_control_tokens_and_a_message_never_does"),
    ("odd Unicode is no error of the server's", "openai_wire::test_odd_text_is_text"),
    ("scores are of the text alone", "openai_wire::test_scores_are_of_the_text_and_of_nothing_else"),
    ("chunks come in the contract's order", "other_clients::test_the_event_stream_keeps_the_contracts_order"),
    (
        "the text of a `file` part (PDF, office files, web pages, mail, text) stands in its place, fenced as data",
        "files_in_chats::test_a_document_stands_where_its_part_stood",
    ),
    (
        "an endpoint that takes files gets them untouched",
        "files_in_chats::test_an_endpoint_that_takes_files_gets_them_untouched",
    ),
    (
        "one that takes none is sent their text",
        "files_in_chats::test_an_endpoint_that_takes_none_is_sent_their_text_although_it_speaks_the_dialect",
    ),
    ("a file's text gives no orders", "files_in_chats::test_a_files_text_cannot_end_its_fence"),
    (
        "files are read within `limits.files`, `limits.file_size`, `limits.file_timeout` and `limits.text`",
        "files_in_chats::test_reading_has_an_end_and_leaves_nothing_behind",
    ),
    (
        "a file that cannot be read is refused by the name of its part, and so is `file_id`",
        "files_in_chats::test_a_file_that_cannot_be_read_is_refused_by_name",
    ),
    ("silence is filled with `: ping`", "streaming::test_a_silence_is_filled_with_comments"),
    ("a prompt that does not fit is refused by default", "shortening::test_by_default_what_does_not_fit_is_refused"),
    ("calls and their answers leave together", "shortening::test_a_call_and_its_answer_leave_together"),
    ("nobody sees another one's kept chats", "kept_chats::test_nobody_sees_what_is_another_ones"),
    (
        "a scored echo's tokens are its text, one for each token of the prompt",
        "openai_wire::test_an_echos_tokens_are_its_text_whatever_they_are",
    ),
    (
        "`echo` with `logprobs` is refused for a model of an endpoint",
        "openai_to_ollama::test_an_endpoints_scores_of_a_prompt_are_not_invented",
    ),
    (
        "a model is warmed up before it counts as loaded",
        "warming::test_a_model_makes_an_empty_run_before_it_counts_as_loaded",
    ),
    ("bad input is a 4xx that names the field", "bad_input::test_a_bad_body_is_a_400_that_says_why"),
)


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    made = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*made, *(f"| {' | '.join(cells)} |" for cells in lines)]


def fields(rows: Sequence[FieldRule], own: Mapping[str, str]) -> list[Sequence[str]]:
    """Raises KeyError for a field that no test holds."""
    return [(f"`{row.name}`", row.verdict.value, row.rule, f"`{own.get(row.name) or TESTS[row.name]}`") for row in rows]


def schemas() -> list[str]:
    kept = sorted(KEPT | {*LEAST, *MOST, *IN_PLACE, "properties", "additionalProperties", "items", "prefixItems"})
    return [
        f"Enforced while the model writes: {listed(kept)}, and",
        f"`format` of {listed(sorted(FORMATS))}. References lead to places within the schema. An object",
        "that names its properties gets no others unless it says so. Annotations are of no effect.",
        "",
        f"Not enforced: {listed(sorted(CONSTRAINING))},",
        "and other formats. With `strict` they are refused with `invalid_schema`; without it dropped and named,",
        "as `response_format.uniqueItems` or `tools.uniqueItems`.",
    ]


def listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def page() -> str:
    hints = "openai_requests::test_unknown_fields_and_hints_are_named_in_request_order"
    head = ("Field", "", "Rule", "Test")
    lines = [HEAD, "## Routes", ""]
    lines += table(("Route", "What", "Test"), [(route, what, f"`{test}`") for route, what, test in ROUTES])
    lines += ["", "## Fields of a chat", "", *table(head, fields(CHAT, {}))]
    lines += [f"| {', '.join(f'`{name}`' for name in HINTS)} | dropped | hints | `{hints}` |"]
    lines += [f"| anything else | dropped | the name is listed | `{hints}` |"]
    lines += ["", "## Fields of a raw completion", "", *table(head, fields(COMPLETION, OWN))]
    lines += ["", "## Schemas", "", *schemas()]
    lines += ["", "## Behaviour", ""]
    lines += table(("What", "Test"), [(what, f"`{test}`") for what, test in BEHAVIOUR])
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
