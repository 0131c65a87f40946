"""Pages of lists."""

from rest_framework.pagination import LimitOffsetPagination


class Pages(LimitOffsetPagination):
    """`?limit=` (50 unless told, 200 at most) and `?offset=`."""

    default_limit = 50
    max_limit = 200
