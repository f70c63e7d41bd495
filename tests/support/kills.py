"""What stands for a kill of the program at a chosen call."""


class Killed(BaseException):
    """Stands for a kill: nothing of the program may catch it."""


def killed_at(monkeypatch, owner, name, number):
    """Let the call `number` (from 0) of a function end the program instead."""
    original, count = getattr(owner, name), iter(range(10**6))

    def call(*args, **kwargs):
        if next(count) == number:
            raise Killed
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)
