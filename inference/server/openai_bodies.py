"""What the OpenAI routes take, field by field; a field that is not here is refused rather than silently left out."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datasets_app.errors import InputError
from inference.engines import wire
from inference.engines.chat import Chat, check_choices

DEFAULT_TOKENS = 128
MAX_TOP_LOGPROBS = 20

Body = TypeVar("Body", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ImageUrl(_Strict):
    """Where the image is: in the body."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class TextPart(_Strict):
    """Words."""

    type: Literal["text"]
    text: str


class ImagePart(_Strict):
    """A screenshot."""

    type: Literal["image_url"]
    image_url: ImageUrl


class Message(_Strict):
    """One turn."""

    role: Literal["system", "user"]
    content: str | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]]


class StreamOptions(_Strict):
    """Whether the stream's last chunk counts the tokens."""

    include_usage: bool | None = None


class StructuredOutputs(_Strict):
    """vLLM's; of its kinds the choice."""

    choice: list[str]


class Size(_Strict):
    """The least and most pixels of the screenshot, in the words of Qwen's image processor."""

    shortest_edge: int
    longest_edge: int


class ProcessorOptions(_Strict):
    """vLLM's, for the image processor."""

    size: Size | None = None


class ChatBody(_Strict):
    """`POST /v1/chat/completions`."""

    model: str
    messages: list[Message]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    n: Literal[1] | None = None
    user: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    structured_outputs: StructuredOutputs | None = None
    guided_choice: list[str] | None = None
    mm_processor_kwargs: ProcessorOptions | None = None
    skip_special_tokens: Literal[False] | None = None

    @property
    def choices(self) -> list[str] | None:
        """What the answer is limited to, in vLLM's present form or its older one."""
        return self.structured_outputs.choice if self.structured_outputs else self.guided_choice

    def check(self) -> None:
        """InputError for what cannot be answered as asked."""
        if self.temperature not in (None, 0):
            raise InputError("Field 'temperature': answers are greedy, so it must be 0.")
        if self.choices is None:
            if self.logprobs or self.top_logprobs:
                raise InputError("Field 'logprobs': they are told of a choice only.")
            return
        if self.structured_outputs and self.guided_choice is not None:
            raise InputError("Field 'guided_choice': it says the same as 'structured_outputs', give one of them.")
        if self.stream:
            raise InputError("Field 'stream': a choice comes as a whole.")
        check_choices(self.choices)

    def chat(self) -> Chat:
        """As the engine takes it; InputError unless it is one system message at most, then one of the user's."""
        roles = [message.role for message in self.messages]
        if roles not in (["user"], ["system", "user"]):
            raise InputError("Field 'messages': give a system message, if any, and one message of the user.")
        system = "".join(_texts(message) for message in self.messages[:-1])
        before, image, after = _split(self.messages[-1])
        size = self.mm_processor_kwargs.size if self.mm_processor_kwargs else None
        limits = [limit for limit in (self.max_tokens, self.max_completion_tokens) if limit is not None]
        return Chat(
            self.model,
            system,
            before,
            after,
            image,
            min(limits, default=DEFAULT_TOKENS),
            (size.shortest_edge, size.longest_edge) if size else None,
        )


class LoadBody(_Strict):
    """`POST /v1/load_lora_adapter`."""

    lora_name: str
    lora_path: str
    load_inplace: Literal[False] = False


class UnloadBody(_Strict):
    """`POST /v1/unload_lora_adapter`."""

    lora_name: str


def read(kind: type[Body], data: bytes) -> Body:
    """The body in `data`; InputError naming the field that is wrong."""
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise wire.wrong_field(error) from error


def _texts(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    if not all(isinstance(part, TextPart) for part in message.content):
        raise InputError("Field 'messages': only the user's message may hold an image.")
    return "".join(part.text for part in message.content if isinstance(part, TextPart))


def _split(message: Message) -> tuple[str, bytes, str]:
    parts = [] if isinstance(message.content, str) else message.content
    images = [number for number, part in enumerate(parts) if isinstance(part, ImagePart)]
    if len(images) != 1:
        raise InputError("Field 'messages': the user's message must hold one image.")
    texts = [part.text if isinstance(part, TextPart) else "" for part in parts]
    image = parts[images[0]]
    assert isinstance(image, ImagePart)  # noqa: S101 - the only one, found above
    return "".join(texts[: images[0]]), _image(image.image_url.url), "".join(texts[images[0] :])


def _image(url: str) -> bytes:
    head, comma, data = url.partition(",")
    if not (comma and head.startswith("data:") and head.endswith(";base64")):
        raise InputError("Field 'image_url': only 'data:…;base64,…' is accepted; nothing is fetched.")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError("Field 'image_url' is not valid base64.") from error
