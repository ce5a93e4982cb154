"""What compatible servers of Chat Completions do differently and no byte of theirs gives away."""

from typing import Final, Literal, TypeAlias

import msgspec

ProfileName: TypeAlias = Literal["auto", "openai", "cumulative", "minimal"]


class Profile(msgspec.Struct, frozen=True):
    """The differences between servers that have to be told. Everything that can be seen in a stream is not here.

    `cumulative_arguments`: each delta of a tool call repeats all its arguments so far (case 20). Without it such
    arguments are still understood, but only at the end of the call.
    `max_tokens_field`: OpenAI's reasoning models refuse `max_tokens`, older servers do not know its successor.
    `stream_options`: JSON, what makes the server send its usage; "" sends nothing, for servers that refuse the field.
    `reasoning_back`: reasoning goes back within a run, in the field in which it came.
    """

    name: ProfileName
    cumulative_arguments: bool = False
    max_tokens_field: str = "max_tokens"
    stream_options: str = '{"include_usage":true}'
    reasoning_back: bool = True


AUTO: Final = Profile("auto")
OPENAI: Final = Profile(
    "openai",
    max_tokens_field="max_completion_tokens",
    stream_options='{"include_usage":true,"include_obfuscation":false}',
    reasoning_back=False,
)
CUMULATIVE: Final = Profile("cumulative", cumulative_arguments=True)
MINIMAL: Final = Profile("minimal", stream_options="", reasoning_back=False)

PROFILES: Final[dict[ProfileName, Profile]] = {profile.name: profile for profile in (AUTO, OPENAI, CUMULATIVE, MINIMAL)}
