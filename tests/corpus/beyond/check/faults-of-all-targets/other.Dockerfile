FROM scratch
RUN --mont=type=cache true
