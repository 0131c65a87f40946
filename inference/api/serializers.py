"""What goes into inference requests and what comes out."""

from __future__ import annotations

from typing import Any

from django.core.files.uploadedfile import UploadedFile
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from datasets_app.api.strict import StrictBooleanField, StrictCharField, StrictIntegerField, StrictSerializer
from datasets_app.errors import InputError
from datasets_app.formats.pictures import MAX_BYTES, check_image
from inference.engines.base64_text import from_base64

SMALL_PNG = (  # 4 by 4 pixels
    "iVBORw0KGgoAAAANSUhEUgAAAAQAAAAECAIAAAAmkwkpAAAAFElEQVR42mNkYGhggAEmBiSAmwMAGYQAiOouQFYAAAAASUVORK5CYII="
)
MAX_PROMPT = 8_192
MAX_TOKENS = 1_024
DEFAULT_TOKENS = 128


@extend_schema_field(
    {
        "type": "string",
        "format": "byte",
        "minLength": 1,
        "description": "PNG, JPEG or WEBP as base64, also in lines or as a data: URL.",
        "example": SMALL_PNG,
    }
)
class ImageField(serializers.Field[bytes, Any, Any, Any]):
    """An encoded image, as an uploaded file or as base64; its content decides what it is."""

    default_error_messages = {
        "invalid": "Give an image file, or its bytes as base64.",
        "too_large": f"The image has more than {MAX_BYTES} bytes.",
    }

    def to_internal_value(self, data: Any) -> bytes:
        """The bytes. What `check_image` raises becomes 400, or 415 for other formats."""
        if isinstance(data, UploadedFile):
            if data.size is None or data.size > MAX_BYTES:
                self.fail("too_large")
            image: bytes = data.read()
        else:
            image = self._decode(data)
        check_image(image)
        return image

    def _decode(self, data: Any) -> bytes:
        if not isinstance(data, str) or not data:
            self.fail("invalid")
        try:
            return from_base64(data)
        except InputError as error:
            raise serializers.ValidationError(str(error)) from error


class RouteRequestSerializer(StrictSerializer):
    """A screenshot and the user's words."""

    image = ImageField()
    prompt = StrictCharField(max_length=MAX_PROMPT)


class RouteFormSerializer(RouteRequestSerializer):
    """The same as a form, for the schema alone."""

    image = serializers.FileField(help_text="PNG, JPEG or WEBP.")  # type: ignore[assignment]


class InferRequestSerializer(RouteRequestSerializer):
    """The same, and how long the answer may be."""

    max_tokens = StrictIntegerField(min_value=1, max_value=MAX_TOKENS, default=DEFAULT_TOKENS)
    stream = StrictBooleanField(default=False, help_text="Answer as server-sent events.")


class InferFormSerializer(InferRequestSerializer):
    """The same as a form, for the schema alone."""

    image = serializers.FileField(help_text="PNG, JPEG or WEBP.")  # type: ignore[assignment]


class UsedSerializer(serializers.Serializer[Any]):
    """An adapter version as it was used."""

    name = serializers.CharField()
    digest = serializers.CharField(help_text="Content hash of its files.")
    template = serializers.CharField(help_text="Hash of the prompt template.")
    min_pixels = serializers.IntegerField()
    max_pixels = serializers.IntegerField()
    proven = serializers.BooleanField(help_text="It answered the canaries of its training as it did then.")


class ReceiptSerializer(serializers.Serializer[Any]):
    """What an answer was given with: `manage.py replay` asks for it again."""

    stack = serializers.CharField()
    base = serializers.CharField(help_text="Fingerprint of the base model.")
    dtype = serializers.CharField()
    device = serializers.CharField()
    router = UsedSerializer()
    labels = serializers.ListField(child=serializers.CharField(), help_text="What the router may answer.")
    label = serializers.CharField(help_text="What it answered.")  # type: ignore[assignment]
    expert = UsedSerializer(allow_null=True)
    image = serializers.CharField(help_text="Hash of the encoded image.")
    prompt = serializers.CharField()
    max_tokens = serializers.IntegerField()
    packages = serializers.DictField(child=serializers.CharField(), help_text="Versions by name.")
    answer = serializers.CharField(allow_null=True, help_text="Hash of the text; null for a decision alone.")


class DecisionSerializer(serializers.Serializer[Any]):
    """Which expert the router names, and how sure it is."""

    label = serializers.CharField(  # type: ignore[assignment]
        help_text="The router's answer: an expert's name, or `none`."
    )
    adapter = serializers.CharField(allow_null=True, help_text="The expert; null for the label `none`.")
    version = serializers.CharField(allow_null=True, help_text="Content hash of the expert's files.")
    probabilities = serializers.DictField(child=serializers.FloatField(), help_text="By label; sums to 1.")
    router = serializers.CharField(help_text="Content hash of the router's files.")
    stack = serializers.CharField(help_text="Content hash of the stack that answered.")
    timings = serializers.DictField(child=serializers.FloatField(), help_text="Milliseconds a stage.")
    receipt = ReceiptSerializer(allow_null=True)


class AnswerSerializer(DecisionSerializer):
    """The decision and the chosen expert's answer."""

    text = serializers.CharField()
    tool_call = serializers.DictField(allow_null=True, help_text="The parsed `<tool_call>`; null if there is none.")
    tokens = serializers.IntegerField(help_text="Tokens generated.")
    finish_reason = serializers.ChoiceField(choices=["stop", "length", "deadline", "none"])


class ErrorDetailSerializer(serializers.Serializer[Any]):
    """Why a request was refused."""

    code = serializers.CharField()
    message = serializers.CharField()
    request_id = serializers.CharField()


class ErrorSerializer(serializers.Serializer[Any]):
    """The shape of every refusal."""

    error = ErrorDetailSerializer()
