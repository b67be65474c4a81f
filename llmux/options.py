"""What several commands take: the configuration, and where its gateway listens."""

from pathlib import Path

import click

from llmux.config import Config, ConfigError, load_config

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    default=Path("litellm_config.yaml"),
    show_default=True,
    help="The configuration file.",
)

port_option = click.option("--port", type=click.IntRange(1, 65535), help="Ask there instead of llmux.port.")


def load(path: Path) -> Config:
    """Raises click.ClickException for a configuration that cannot be used."""
    try:
        return load_config(path)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
