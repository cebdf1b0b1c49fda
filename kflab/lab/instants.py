"""An instant in the words of the screen: the same clock in the lab's sentences, on the axis and in the trace."""


def instant(t_ns: int, decimals: int = 2) -> str:
    """An instant on the axis or in a trace: ``12.40``, from one minute ``1:12.40``, from one hour ``1:00:12``."""
    step: int = 10 ** (9 - decimals)
    units = (t_ns + step // 2) // step
    seconds, fraction = divmod(units, 10**decimals)
    part = f".{fraction:0{decimals}d}" if decimals else ""
    if seconds >= 3600:
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    if seconds >= 60:
        return f"{seconds // 60}:{seconds % 60:02d}{part}"
    return f"{seconds}{part}"
