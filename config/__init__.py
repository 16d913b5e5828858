"""What people write: annotated types, the stack model, its loader and the report of everything wrong.

Creates no resource and opens no connection; knows no system (they are registered by ``systems/``) and no
cloud (sizes come through :class:`config.model.Catalogue`).
"""
